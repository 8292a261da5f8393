"""A figure from values to bytes: matplotlib draws it, one style sheet says how, and the same figure gives the same bytes."""

from __future__ import annotations

import io
import re
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias
from xml.etree import ElementTree

from finetunekit.reports.fonts import base_font, coverage, embedded_font_css, missing_letters, pick_fonts
from finetunekit.reports.text_drawing import spell_out
from finetunekit.system.terminal import printable, terminal_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

Format: TypeAlias = Literal["svg", "png"]

STYLE = Path(__file__).parent / "style.mplstyle"
#: Colours on paper and on a dark screen, by the CSS variable that a page may set. Blue and vermilion stay apart in every common
#: colour vision deficiency. Source: Okabe and Ito 2008, "Color Universal Design".
INK, MUTED, GRID, PAPER = "#1a1c1b", "#50575a", "#d8dbd9", "#ffffff"
MAIN, CONTRAST, OTHER, WARNING, BLANK = "#0072b2", "#d55e00", "#6a6f72", "#a84300", "#ececea"
_COLOURS = {
    INK: ("ink", "#e8eaea"),
    MUTED: ("muted", "#a9b1b5"),
    GRID: ("grid", "#3a4145"),
    PAPER: ("paper", "#14171a"),
    BLANK: ("blank", "#262b2f"),
    MAIN: ("main", "#56b4e9"),
    CONTRAST: ("contrast", "#ff8c42"),
    OTHER: ("other", "#a9b1b5"),
    WARNING: ("warn", "#ffb07a"),
}
#: Asked in order by the browser, character by character, so that one list serves every script.
_FAMILIES = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', 'Liberation Sans', Arial, 'Hiragino Sans', 'Yu Gothic UI', "
    "'Noto Sans CJK JP', 'Noto Sans JP', 'PingFang SC', 'Microsoft YaHei', 'Apple SD Gothic Neo', 'Malgun Gothic', 'Noto Sans Arabic', "
    "'Noto Sans Hebrew', 'Noto Sans Devanagari', 'Nirmala UI', 'Noto Sans Thai', 'Leelawadee UI', 'Apple Color Emoji', 'Segoe UI Emoji', "
    "'Noto Color Emoji', sans-serif"
)
_DARK = "".join(
    f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
    for light, (_, dark) in _COLOURS.items()
    for what in ("fill", "stroke")
)
_NO_FONT = "Letters that no font on this machine has are spelled out, or shown as U+…; `finetunekit doctor` lists the scripts it can draw."
_SVG = "http://www.w3.org/2000/svg"
_WHOLE = "whole: "


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure, not drawn yet.

    Attributes:
        name: Identifier within a page, ASCII letters, digits and `-`.
        title: What it is.
        description: What can be seen in it, for those who cannot see it.
        draw: Draws on an empty figure, in the style of `style.mplstyle`; what lies outside the figure is shown too.
        size_px: Width and height of that figure.
    """

    name: str
    title: str
    description: str
    draw: Callable[[Figure], None]
    size_px: tuple[float, float] = (480, 320)


def figure_files(
    drawing: Drawing, formats: tuple[Format, ...], stand_in: str | None, png_scale: int = 2
) -> dict[str, bytes]:
    """Draw a figure in the formats asked for.

    Args:
        drawing: The figure.
        formats: Which files to make.
        stand_in: The run's stand-in sentence, shown below the figure.
        png_scale: Pixels of the PNG per pixel of the figure.

    Returns:
        `<name>.svg` and `<name>.png`, as asked for; `-` in the figure's name becomes `_`.
    """
    stem = drawing.name.replace("-", "_")
    files: dict[str, bytes] = {}
    if "svg" in formats:
        files[f"{stem}.svg"] = svg_file(drawing, stand_in)
    if "png" in formats:
        files[f"{stem}.png"] = png_file(drawing, stand_in, png_scale)
    return files


def inline_svg(drawing: Drawing) -> str:
    """A figure as an element of a page: its colours and its font are the page's, its identifiers begin with its name."""
    with _drawn(drawing) as figure:
        root = _svg(figure, drawing, drawing.description)
    for element in root.iter():
        if "style" in element.attrib:
            element.set("style", re.sub(r"#[0-9a-f]{6}", _variable, element.attrib["style"]))
    return _markup(root)


def svg_file(drawing: Drawing, stand_in: str | None = None) -> bytes:
    """A figure as an SVG document of its own, light or dark as its reader's screen is.

    Args:
        drawing: The figure.
        stand_in: A sentence to show below it.
    """
    said = f"{drawing.description} {one_line(stand_in)}" if stand_in else drawing.description
    with _drawn(drawing) as figure:
        _add_caption(figure, stand_in or "", WARNING)
        root = _svg(figure, drawing, said)
        fonts = embedded_font_css(text.get_text() for text in _texts(figure))
    families = f"ftk-names, {_FAMILIES}" if fonts else _FAMILIES
    style = ElementTree.Element("style")
    style.text = (
        f"{fonts}text{{font-family:{families};font-variant-numeric:tabular-nums}}"
        f"@media screen and (prefers-color-scheme:dark){{{_DARK}}}"
    )
    root.insert(2, style)
    root.set("xmlns", _SVG)
    return _markup(root).encode() + b"\n"


def png_file(drawing: Drawing, stand_in: str | None = None, scale: int = 2) -> bytes:
    """A figure as PNG, 8-bit RGB, the same bytes for the same figure, fonts and matplotlib.

    Args:
        drawing: The figure.
        stand_in: A sentence to show below it.
        scale: Pixels of the file per pixel of the figure.
    """
    from PIL import Image

    drawn, stream = io.BytesIO(), io.BytesIO()
    with _drawn(drawing, scale) as figure:
        _add_caption(figure, stand_in or "", WARNING)
        if _spell_out_missing(figure):
            _add_caption(figure, _NO_FONT, MUTED)
        _thicken(figure)
        figure.savefig(drawn, format="png", pil_kwargs={"compress_level": 0})
    with Image.open(drawn) as picture:
        picture.convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def axes_at(figure: Figure, left_px: float, top_px: float, width_px: float, height_px: float) -> Axes:
    """Axes of a size in pixels, whatever the size of the figure; places count from its left upper corner."""
    width, height = figure.get_size_inches() * 72
    return figure.add_axes((left_px / width, 1 - (top_px + height_px) / height, width_px / width, height_px / height))


# ---- texts -----------------------------------------------------------------------------------------------------------------------


def one_line(text: str) -> str:
    """Text on one line without characters that XML forbids or that would change the direction of what follows."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    clean = "".join(c for c in kept if unicodedata.category(c) not in ("Cs", "Cn") and c not in _BIDI_CONTROLS)
    return " ".join(clean.split()) or "(no name)"


_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def shortened(text: str, columns: int) -> str:
    """The text, its middle replaced by `…` where it takes more columns; start and end tell similar names apart."""
    if terminal_width(text) <= columns:
        return text
    for kept in range(len(text) - 1, 1, -1):
        tail = text[len(text) - kept // 2 :]
        start = next((i for i, c in enumerate(tail) if not unicodedata.category(c).startswith("M")), len(tail))
        candidate = f"{text[: kept - kept // 2].rstrip()}…{tail[start:].lstrip()}"
        if terminal_width(candidate) <= columns:
            return candidate
    return text[:1] + "…"


def keep_whole(whole: str) -> str:
    """What a shortened text takes as its `gid`, so that an SVG says the whole one where a reader points at it."""
    return f"{_WHOLE}{whole}"


def _texts(figure: Figure) -> list[Text]:
    """Every text of a figure, labels of ticks included, which matplotlib writes late."""
    from matplotlib.text import Text

    for axes in figure.axes:
        axes.get_xticklabels()
        axes.get_yticklabels()
    return [text for text in figure.findobj(Text) if isinstance(text, Text)]


def _spell_out_missing(figure: Figure) -> bool:
    """Put what can be read in place of letters that no font has, and say whether there were any."""
    from matplotlib.ticker import FixedFormatter, FixedLocator

    whole = "".join(text.get_text() for text in _texts(figure))
    missing = missing_letters(whole, pick_fonts([whole]))
    if not missing:
        return False
    for text in _texts(figure):
        text.set_text("".join(spell_out(c) if c in missing else c for c in text.get_text()))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_locator(), FixedLocator):
            axis.set_major_formatter(FixedFormatter([tick.label1.get_text() for tick in axis.majorTicks]))
    return True


def _add_caption(figure: Figure, sentence: str, colour: str) -> None:
    """A sentence below all that was drawn, no wider than it; a warning is bold."""
    if not sentence:
        return
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    words = one_line(sentence)
    letters = box.width * 72 / 12 / 0.68 * len(words) / terminal_width(words)  # DejaVu Sans Bold: 0.68 em on average
    words = textwrap.fill(words, max(int(letters), 20))
    place = (box.x0 / width, (box.y0 - 12 / 72) / height)
    figure.text(*place, words, va="top", color=colour, weight="bold" if colour == WARNING else "normal")


# ---- drawing and writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def _drawn(drawing: Drawing, scale: int = 1) -> Iterator[Figure]:
    """The figure, drawn in our style and in fonts that have its letters; the style holds until it is written."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(fname=STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # an SVG's reader has fonts too
        figure = Figure(figsize=(drawing.size_px[0] / 72, drawing.size_px[1] / 72), dpi=72 * scale)
        drawing.draw(figure)
        _use_fonts(figure)
        yield figure


def _use_fonts(figure: Figure) -> None:
    """Let each text fall back to fonts that have the letters that DejaVu Sans lacks."""
    from matplotlib.font_manager import FontEntry, fontManager

    others = pick_fonts(text.get_text() for text in _texts(figure))[1:]
    known = {font.name for font in fontManager.ttflist}
    for path in (path for path in others if str(path) not in known):  # by its path: no other font has that name
        fontManager.ttflist += [FontEntry(fname=str(path), name=str(path), weight=weight) for weight in (400, 700)]
    for text in _texts(figure) if others else ():
        text.set_fontfamily(["DejaVu Sans", *map(str, others)])


def _thicken(figure: Figure) -> None:
    """Outline letters of variable fonts whose lightest weight is thin: it is the one that matplotlib draws."""
    from matplotlib.font_manager import get_font, ttfFontProperty
    from matplotlib.patheffects import withStroke

    others = pick_fonts(text.get_text() for text in _texts(figure))[1:]
    thin = [coverage(path) for path in others if int(ttfFontProperty(get_font(str(path))).weight) < 400]
    for text in _texts(figure) if thin else ():
        rare = missing_letters(text.get_text(), [base_font()])
        if any(letter in letters for letter in rare for letters in thin):
            width = text.get_fontproperties().get_size_in_points() * (0.09 if text.get_fontweight() == "bold" else 0.05)
            text.set_path_effects([withStroke(linewidth=width, foreground=text.get_color())])


def _svg(figure: Figure, drawing: Drawing, description: str) -> ElementTree.Element:
    """What matplotlib writes, with title and description, identifiers of our own, and colours that a page may replace."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(stream.getvalue())
    for element in root.iter():
        _own(element, drawing.name)
    root[:] = [child for child in root if child.find("style") is None]  # it would be the whole page's
    width, height = root.attrib["viewBox"].split()[2:]
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": width,
        "height": height,
        "role": "img",
        "aria-labelledby": f"{drawing.name}-title {drawing.name}-desc",
        "style": "stroke-linejoin:round",
    }
    for i, (tag, text) in enumerate((("title", drawing.title), ("desc", description))):
        child = ElementTree.Element(tag, id=f"{drawing.name}-{tag}")
        child.text = text
        root.insert(i, child)
    return root


def _markup(root: ElementTree.Element) -> str:
    """An element as text, in which marks of names that turn or hide text are escapes."""
    return "\n".join(map(printable, ElementTree.tostring(root, "unicode").split("\n")))


def _own(element: ElementTree.Element, name: str) -> None:
    """Drop matplotlib's names and indentation, and show the whole of a shortened text where a reader points at it."""
    element.tag, element.tail = element.tag.removeprefix(f"{{{_SVG}}}"), None
    if element.tag not in ("text", "title"):
        element.text = None
    values = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    given = values.pop("id", "") if element.tag == "g" else ""
    text = element.find(f"{{{_SVG}}}text")
    if given.startswith(_WHOLE) and text is not None and text.text != given.removeprefix(_WHOLE):
        ElementTree.SubElement(text, f"{{{_SVG}}}title").text = given.removeprefix(_WHOLE)
    if values.get("transform", "").startswith("rotate(-0 "):
        del values["transform"]
    element.attrib = {key: _rewritten(key, value, name) for key, value in values.items()}


def _rewritten(key: str, value: str, name: str) -> str:
    """An attribute: identifiers begin with the figure's name, fonts are the page's, a hundredth of a pixel is enough."""
    match key:
        case "id":
            return f"{name}-{value}"
        case "href":
            return f"#{name}-{value[1:]}" if value.startswith("#") else "".join(value.split())
        case "clip-path":
            return value.replace("url(#", f"url(#{name}-")
        case "style":
            return re.sub(r"font-family: [^;]*;? ?", "", value)
        case "d" | "x" | "y" | "transform":
            return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))
    return value


def _variable(colour: re.Match[str]) -> str:
    return f"var(--{_COLOURS[colour[0]][0]}, {colour[0]})" if colour[0] in _COLOURS else colour[0]
