"""A figure as plain values: shapes, photos and texts in pixels, drawn as SVG (`svg.py`) or PNG (`raster.py`).

Texts stay texts, so that a browser chooses a font for any script, a page can restyle them, and a screen reader can read them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from finetunekit import terminal_width

#: Colours with a meaning: a page may restyle them (light, dark, print). Text on paper has a contrast of at least 7 : 1.
ROLES = {"paper": "#ffffff", "ink": "#1b1b1b", "muted": "#4d4d4d", "grid": "#d9d9d9", "blank": "#eeeeee"}
#: Two colours that stay apart in every common colour vision deficiency. Source: Okabe and Ito 2008, "Color Universal Design".
BLUE, VERMILION = "#0072b2", "#d55e00"

Anchor: TypeAlias = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True)
class Rects:
    """Filled rectangles of one colour. `boxes` are (left, top, width, height) in pixels."""

    boxes: tuple[tuple[float, float, float, float], ...]
    fill: str


@dataclass(frozen=True, slots=True)
class Line:
    """An open line through `points` (x, y) in pixels; `dash` is on and off lengths in pixels."""

    points: tuple[tuple[float, float], ...]
    stroke: str
    width_px: float = 1.0
    dash: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """Small symbols of one colour and shape, centred on `points`."""

    points: tuple[tuple[float, float], ...]
    shape: Literal["disc", "square"]
    fill: str
    radius_px: float = 3.0


@dataclass(frozen=True, slots=True)
class Photo:
    """An encoded image (PNG or JPEG) shown at `box`: left, top, width, height in pixels."""

    box: tuple[float, float, float, float]
    content: bytes
    media_type: Literal["image/png", "image/jpeg"]
    alt: str


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text on its baseline.

    Attributes:
        x: Anchor's distance from the left, in pixels.
        y: Baseline's distance from the top, in pixels.
        content: What is shown.
        size_px: Font size.
        fill: Colour, or a name of `ROLES`.
        anchor: Which end of the text lies at `x`.
        bold: Whether it is bold.
        turn_deg: Counter-clockwise rotation about the anchor.
        whole: The untruncated text where `content` is shortened.
        limit_px: A PNG's text is made smaller where the font at hand is wider than this.
    """

    x: float
    y: float
    content: str
    size_px: float = 12.0
    fill: str = "ink"
    anchor: Anchor = "start"
    bold: bool = False
    turn_deg: float = 0.0
    whole: str | None = None
    limit_px: float | None = None


Item: TypeAlias = Rects | Line | Marks | Photo | Text


@dataclass(frozen=True, slots=True)
class Drawing:
    """A finished figure.

    Attributes:
        name: Identifier within a page, ASCII letters, digits and `-`.
        title: What it is.
        description: What can be seen in it, for those who cannot see it.
        width_px: Width.
        height_px: Height.
        items: Drawn in this order.
    """

    name: str
    title: str
    description: str
    width_px: int
    height_px: int
    items: tuple[Item, ...]


def with_caption(drawing: Drawing, sentence: str, is_warning: bool) -> Drawing:
    """The figure with a sentence below it, and in its description; a warning is ruled off, bold and coloured."""
    size_px, line_px, margin_px = 12.0, 17, 12
    fill = VERMILION_TEXT if is_warning else "muted"
    lines = wrapped(sentence, size_px, drawing.width_px - 2 * margin_px, bold=is_warning)
    top = drawing.height_px
    added: list[Item] = [
        Text(margin_px, top + line_px * (i + 1), line, size_px, fill, bold=is_warning) for i, line in enumerate(lines)
    ]
    if is_warning:
        added.append(Line(((margin_px, top + 1), (drawing.width_px - margin_px, top + 1)), fill))
    return replace(
        drawing,
        description=f"{drawing.description} {one_line(sentence)}",
        height_px=top + line_px * len(lines) + margin_px,
        items=(*drawing.items, *added),
    )


#: Vermilion darkened until small text on white has a contrast above 4.5 : 1. Source: WCAG 2.2, success criterion 1.4.3.
VERMILION_TEXT = "#a84300"


def one_line(text: str) -> str:
    """Text on one line without characters that XML forbids or that would change the direction of what follows."""
    kept = (" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    clean = "".join(c for c in kept if unicodedata.category(c) not in ("Cs", "Cn") and c not in _BIDI_CONTROLS)
    return " ".join(clean.split()) or "(no name)"


_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def width_px(text: str, size_px: float, bold: bool = False) -> float:
    """Estimated width of a text in any sans-serif font, rather too wide than too narrow, in pixels."""
    return sum(map(_advance_em, text)) * size_px * (1.1 if bold else 1.0)


def _advance_em(char: str) -> float:
    """Advance of a character in em. Source: advances of DejaVu Sans, the widest common sans-serif, in groups."""
    columns = terminal_width(char)
    if columns != 1:
        return columns / 2  # a mark takes no room, a wide letter a whole em
    if char in " ijlIft.,:;'|!()[]/":
        return 0.38
    return 0.95 if char in "mwMW@%—" else 0.70 if char.isupper() else 0.63


def shortened(text: str, size_px: float, limit_px: float, bold: bool = False) -> str:
    """The text, its middle replaced by `…` where it is wider than `limit_px`; start and end tell similar names apart."""
    if width_px(text, size_px, bold) <= limit_px:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = (kept + 1) * 3 // 5
        candidate = text[:head].rstrip() + "…" + _from_cluster(text[len(text) - (kept - head) :])
        if width_px(candidate, size_px, bold) <= limit_px:
            return candidate
    return text[:1] + "…"


def _from_cluster(text: str) -> str:
    """The text without marks at its start that belong to a character cut off."""
    start = next((i for i, c in enumerate(text) if not unicodedata.category(c).startswith("M")), len(text))
    return text[start:].lstrip()


def wrapped(text: str, size_px: float, limit_px: float, bold: bool = False) -> tuple[str, ...]:
    """Lines no wider than `limit_px`, broken at spaces, or anywhere in a word that is too wide by itself."""
    lines: list[str] = []
    for word in _pieces(one_line(text).split(" "), size_px, limit_px, bold):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_px(longer, size_px, bold) <= limit_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return tuple(lines)


def _pieces(words: Iterable[str], size_px: float, limit_px: float, bold: bool) -> Iterable[str]:
    for word in words:
        start = 0
        for end in range(1, len(word) + 1):
            if end - start > 1 and width_px(word[start:end], size_px, bold) > limit_px:
                yield word[start : end - 1]
                start = end - 1
        yield word[start:]
