"""Figures as SVG: small, exact, the same bytes for the same figure, texts kept as texts."""

from __future__ import annotations

import base64
from html import escape

from .scene import ROLES, Drawing, Item, Line, Marks, Photo, Rects, Text

#: Asked in order by the browser, character by character, so that one list serves every script.
FONT_FAMILIES = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', 'Liberation Sans', Arial, 'Hiragino Sans', 'Yu Gothic UI', "
    "'Noto Sans CJK JP', 'Noto Sans JP', 'PingFang SC', 'Microsoft YaHei', 'Apple SD Gothic Neo', 'Malgun Gothic', 'Noto Sans Arabic', "
    "'Noto Sans Hebrew', 'Noto Sans Devanagari', 'Nirmala UI', 'Noto Sans Thai', 'Leelawadee UI', 'Apple Color Emoji', 'Segoe UI Emoji', "
    "'Noto Color Emoji', sans-serif"
)


def to_svg(drawing: Drawing, font_css: str = "") -> bytes:
    """Draw as a self-contained SVG document.

    Colours of `ROLES` are presentation attributes beside a class (`ftk-ink`, …), so that a page's own style sheet wins over them.

    Args:
        drawing: The figure.
        font_css: `@font-face` rules to carry along, with the family they define named `ftk-names`.

    Returns:
        UTF-8 XML with `<title>` and `<desc>`.
    """
    name, width, height = drawing.name, drawing.width_px, drawing.height_px
    # First in the list: Chromium draws boxes for the first use of an embedded font that it only falls back to.
    families = f"ftk-names, {FONT_FAMILIES}" if font_css else FONT_FAMILIES
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-labelledby="{name}-title {name}-desc" font-family="{families}">\n'
        f'<title id="{name}-title">{escape(drawing.title)}</title>\n<desc id="{name}-desc">{escape(drawing.description)}</desc>\n'
    )
    style = f"<style>{font_css}</style>\n" if font_css else ""
    paper = f'<rect width="{width}" height="{height}" {_colour("fill", "paper")}/>\n'
    return (head + style + paper + "\n".join(map(_element, drawing.items)) + "\n</svg>\n").encode()


def _element(item: Item) -> str:
    match item:
        case Rects():
            shape = "".join(f"M{_n(x)} {_n(y)}h{_n(w)}v{_n(h)}h{_n(-w)}z" for x, y, w, h in item.boxes)
            return f'<path d="{shape}" {_colour("fill", item.fill)}/>'
        case Line():
            return _line(item)
        case Marks():
            return _marks(item)
        case Photo():
            return _photo(item)
        case Text():
            return _text(item)


def _line(line: Line) -> str:
    points = " ".join(f"{_n(x)},{_n(y)}" for x, y in line.points)
    dash = f' stroke-dasharray="{_n(line.dash[0])} {_n(line.dash[1])}"' if line.dash else ""
    stroke = _colour("stroke", line.stroke)
    return f'<polyline points="{points}" fill="none" {stroke} stroke-width="{_n(line.width_px)}" stroke-linejoin="round"{dash}/>'


def _marks(marks: Marks) -> str:
    r = marks.radius_px
    if marks.shape == "square":
        shape = "".join(f"M{_n(x - r)} {_n(y - r)}h{_n(2 * r)}v{_n(2 * r)}h{_n(-2 * r)}z" for x, y in marks.points)
    else:
        arc = f"a{_n(r)} {_n(r)} 0 1 0 "
        shape = "".join(f"M{_n(x - r)} {_n(y)}{arc}{_n(2 * r)} 0{arc}{_n(-2 * r)} 0z" for x, y in marks.points)
    return f'<path d="{shape}" {_colour("fill", marks.fill)}/>'


def _photo(photo: Photo) -> str:
    x, y, w, h = photo.box
    data = base64.b64encode(photo.content).decode("ascii")
    place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(w)}" height="{_n(h)}"'
    href = f'href="data:{escape(photo.media_type)};base64,{data}"'
    return f"<image {place} {href}><title>{escape(photo.alt)}</title></image>"


def _text(text: Text) -> str:
    turn = f' transform="rotate({_n(-text.turn_deg)} {_n(text.x)} {_n(text.y)})"' if text.turn_deg else ""
    anchor = f' text-anchor="{text.anchor}"' if text.anchor != "start" else ""
    bold = ' font-weight="bold"' if text.bold else ""
    tip = f"<title>{escape(text.whole)}</title>" if text.whole and text.whole != text.content else ""
    place = f'x="{_n(text.x)}" y="{_n(text.y)}" font-size="{_n(text.size_px)}"{anchor}{bold}{turn}'
    return f"<text {place} {_colour('fill', text.fill)}>{escape(text.content)}{tip}</text>"


def _colour(attribute: str, colour: str) -> str:
    return (
        f'class="ftk-{colour}-{attribute}" {attribute}="{ROLES[colour]}"'
        if colour in ROLES
        else f'{attribute}="{colour}"'
    )


def _n(value: float) -> str:
    """A length to a tenth of a pixel, without trailing zeros."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
