"""Which font file has the letters of a text: matplotlib's DejaVu Sans, font packages, then the system's own fonts."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Distributions that carry fonts (import name). `manimgx_fonts` and `manimgx_fonts_cjk` are Noto Sans, SIL Open Font License 1.1.
FONT_PACKAGES = ("manimgx_fonts", "manimgx_fonts_cjk", "weblate_fonts")
#: A few letters of each script, to say which font would show it.
SCRIPT_SAMPLES = {
    "Latin": "Aéßłž",
    "Cyrillic": "Жук",
    "Greek": "Λύγξ",
    "Japanese": "猫ライオン",
    "Chinese": "猫狮",
    "Korean": "호랑이",
    "Arabic": "أسد",
    "Hebrew": "אריה",
    "Devanagari": "बाघ",
    "Thai": "แมว",
    "Emoji": "🐱",
}
MAX_FONTS_OPENED = 600
_LAST = (
    "bold",
    "italic",
    "oblique",
    "light",
    "thin",
    "black",
    "condensed",
    "mono",
    "serif",
    "medium",
    "heavy",
    "display",
    "extra",
)
_CLAIMS_EVERYTHING = ("lastresort", "adobeblank", "notdef")


def pick_fonts(texts: Iterable[str], bold: bool = False) -> tuple[Path, ...]:
    """Choose font files that together show the texts, each chosen for letters that those before it lack.

    Args:
        texts: What is to be drawn.
        bold: Whether the first font is the bold one.

    Returns:
        Font files in the order to ask them, letter by letter. Letters that no font has are in none of them; see `missing_letters`.
    """
    wanted = {c for text in texts for c in text if needs_glyph(c)}
    chosen: list[Path] = []
    for path in font_files(bold):
        found = wanted & coverage(path) if wanted or not chosen else set()
        if found or not chosen:
            chosen.append(path)
            wanted -= found
        if not wanted:
            break
    return tuple(chosen)


def missing_letters(text: str, fonts: Iterable[Path]) -> tuple[str, ...]:
    """Letters of a text that none of the fonts has, each once, in order; Pillow's own font has ASCII at least."""
    covered = [coverage(path) for path in fonts]
    return tuple(
        dict.fromkeys(c for c in text if needs_glyph(c) and not c.isascii() and not any(c in f for f in covered))
    )


def font_report() -> dict[str, str | None]:
    """For each script, the name of a font file that shows it in PNG figures, or None. SVG figures use the reader's own fonts too."""
    report: dict[str, str | None] = {}
    for script, sample in SCRIPT_SAMPLES.items():
        fonts = pick_fonts([sample])
        report[script] = None if missing_letters(sample, fonts) else fonts[-1].name
    return report


def has_shaping() -> bool:
    """Whether Pillow can join Arabic letters, order right-to-left text and place Indic vowels (its `raqm` feature)."""
    from PIL import features

    return bool(features.check("raqm"))


def needs_glyph(char: str) -> bool:
    """Whether a character is drawn at all: spaces, joiners and variation selectors are not."""
    return not char.isspace() and unicodedata.category(char) not in ("Cf", "Cc") and not 0xFE00 <= ord(char) <= 0xFE0F


@functools.cache
def coverage(path: Path) -> frozenset[str]:
    """Characters that a font file has an outline for; none for a bitmap-only or unreadable font."""
    from fontTools.ttLib import TTFont, TTLibError  # type: ignore[import-untyped, unused-ignore]

    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            if not {"glyf", "CFF ", "CFF2"} & set(font.keys()):
                return frozenset()
            return frozenset(map(chr, font.getBestCmap() or {}))
    except (TTLibError, OSError, ValueError, KeyError, AssertionError):
        return frozenset()


def font_files(bold: bool = False) -> Iterator[Path]:
    """Every font file worth asking, the base font, which has the Latin letters, first."""
    base = base_font(bold)
    if base is not None:
        yield base
    yield from (path for path in _other_fonts() if path != base)


def base_font(bold: bool = False) -> Path | None:
    """Matplotlib's DejaVu Sans (Latin, Greek, Cyrillic, Arabic, Hebrew), else the first font with Latin letters, else None."""
    folder = _package_folder("matplotlib")
    if folder is not None:
        return folder / "mpl-data" / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
    return next((path for path in _other_fonts() if set("Az09") <= coverage(path)), None)


def _other_fonts() -> Iterator[Path]:
    for package in FONT_PACKAGES:
        folder = _package_folder(package)
        if folder is not None:
            yield from _fonts_under(folder)
    system = (path for folder in _system_folders() for path in _fonts_under(folder))
    yield from itertools.islice(system, MAX_FONTS_OPENED)


def _package_folder(package: str) -> Path | None:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


@functools.cache
def _fonts_under(folder: Path) -> tuple[Path, ...]:
    """Font files of a folder, upright regular sans-serif ones first, then by name."""
    files = (path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf", ".ttc"))
    usable = (path for path in files if not any(word in path.name.lower() for word in _CLAIMS_EVERYTHING))
    return tuple(
        sorted(usable, key=lambda path: (any(word in path.name.lower() for word in _LAST), path.name, str(path)))
    )


def _system_folders() -> tuple[Path, ...]:
    home = Path.home()
    if sys.platform == "win32":
        roots = (
            Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts",
            home / "AppData/Local/Microsoft/Windows/Fonts",
        )
    elif sys.platform == "darwin":
        roots = (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    else:
        roots = (
            Path("/usr/share/fonts"),
            Path("/usr/local/share/fonts"),
            home / ".local/share/fonts",
            home / ".fonts",
        )
    return tuple(root for root in roots if root.is_dir())
