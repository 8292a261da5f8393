"""Texts in any script drawn with Pillow: each run of letters in a font that has them, and code points where none has."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit.reports.fonts import coverage, has_shaping, missing_letters, needs_glyph, pick_fonts

if TYPE_CHECKING:
    from PIL import ImageFont

REGULAR_WEIGHT, BOLD_WEIGHT = 400, 700


@dataclass(frozen=True, slots=True)
class Run:
    """Letters that one font shows."""

    letters: str
    font: Path


def visual_runs(text: str, bold: bool = False) -> tuple[Run, ...]:
    """Split a text into runs of one font, in the order in which they are drawn from left to right.

    Letters that no installed font has are spelled out: legible, and never an empty box.
    """
    fonts = pick_fonts([text], bold)
    missing = missing_letters(text, fonts)
    spelled = " ".join("".join(spell_out(c) if c in missing else c for c in text).split()) if missing else text
    runs = list(_merged(spelled, fonts))
    if not is_right_to_left(text):
        return tuple(runs)
    if not has_shaping():  # Pillow then draws letters in memory order
        runs = [Run("".join(reversed(list(_clusters(run.letters)))), run.font) for run in runs]
    return tuple(reversed(runs))


def spell_out(letter: str) -> str:
    """A letter in ASCII: the sound of a syllable sign (`ラ` is `ra`), else the code point (`猫` is `U+732B`).

    Source: character names of the Unicode standard, which are the readings in these scripts.
    """
    named = re.fullmatch(
        r"(?:HIRAGANA|KATAKANA|HANGUL|ETHIOPIC) (?:LETTER|SYLLABLE) (?:SMALL )?([A-Z]+)",
        unicodedata.name(letter, ""),
    )
    return named[1].lower() if named else f" U+{ord(letter):04X} "


def is_right_to_left(text: str) -> bool:
    """Whether the first letter with a direction is Arabic, Hebrew or the like. Source: Unicode UAX 9, rules P2 and P3."""
    strong = next((d for d in map(unicodedata.bidirectional, text) if d in ("L", "R", "AL")), "L")
    return strong != "L"


def _merged(text: str, fonts: Sequence[Path]) -> Iterator[Run]:
    letters, font = "", fonts[0]
    for cluster in _clusters(text):
        chosen = _font_of(cluster, fonts, font)
        if letters and chosen != font:
            yield Run(letters, font)
            letters = ""
        letters, font = letters + cluster, chosen
    if letters:
        yield Run(letters, font)


def _font_of(cluster: str, fonts: Sequence[Path], current: Path) -> Path:
    """The font in use if it has the cluster (spaces follow their neighbours), else the first that has it."""
    needed = {c for c in cluster if needs_glyph(c)}
    if not needed:
        return current
    return next((font for font in fonts if needed <= coverage(font)), fonts[0])


def _clusters(text: str) -> Iterator[str]:
    """Letters with the marks, joiners and modifiers that belong to them."""
    cluster = ""
    for char in text:
        joins = unicodedata.category(char) in ("Mn", "Mc", "Me", "Cf", "Sk") or cluster.endswith("\u200d")
        if cluster and not joins:
            yield cluster
            cluster = ""
        cluster += char
    if cluster:
        yield cluster


@functools.lru_cache(maxsize=256)
def load_font(path: Path, size_px: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Open a font at a size; a variable font at its regular or bold weight, since its default may be its thinnest."""
    from PIL import ImageFont

    font = ImageFont.truetype(path, size_px)
    try:
        axes = font.get_variation_axes()
    except OSError:  # not a variable font
        return font
    weight = BOLD_WEIGHT if bold else REGULAR_WEIGHT
    names = (b"Weight", "Weight")
    font.set_variation_by_axes([weight if axis["name"] in names else axis["default"] or 0 for axis in axes])
    return font


def measured_px(runs: Sequence[Run], size_px: float, bold: bool = False) -> float:
    """Width of the runs as they are drawn, in pixels."""
    return sum(load_font(run.font, size_px, bold).getlength(run.letters) for run in runs)
