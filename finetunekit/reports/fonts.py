"""Which font file has the letters of a text: matplotlib's DejaVu Sans, font packages, then the system's own fonts."""

from __future__ import annotations

import base64
import functools
import importlib.util
import io
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
#: Of letters that one SVG or page carries along.
MAX_EMBEDDED_BYTES = 120_000
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
        found = wanted & coverage(path)
        if found or not chosen:
            chosen.append(path)
            wanted -= found
        if not wanted:
            break
    return tuple(chosen)


def missing_letters(text: str, fonts: Iterable[Path]) -> tuple[str, ...]:
    """Letters of a text that none of the fonts has, each once, in order."""
    covered = [coverage(path) for path in fonts]
    return tuple(dict.fromkeys(c for c in text if needs_glyph(c) and not any(c in letters for letters in covered)))


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


def base_font(bold: bool = False) -> Path:
    """Matplotlib's DejaVu Sans: Latin, Greek, Cyrillic, Arabic, Hebrew."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return _package_folder("matplotlib") / "mpl-data" / "fonts" / "ttf" / name


def font_files(bold: bool = False) -> Iterator[Path]:
    """Every font file worth asking, the base font, which has the Latin letters, first."""
    yield base_font(bold)
    for package in FONT_PACKAGES:
        if importlib.util.find_spec(package) is not None:
            yield from _sorted(_package_folder(package).rglob("*"))
    yield from _system_fonts()


@functools.cache
def _system_fonts() -> tuple[Path, ...]:
    from matplotlib.font_manager import findSystemFonts

    return tuple(_sorted(map(Path, findSystemFonts()))[:MAX_FONTS_OPENED])


def _package_folder(package: str) -> Path:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed", name=package)
    return Path(spec.origin).parent


def _sorted(files: Iterable[Path]) -> list[Path]:
    """Font files, upright regular sans-serif ones first, then by name."""
    fonts = (path for path in files if path.suffix.lower() in (".ttf", ".otf", ".ttc"))
    usable = (path for path in fonts if not any(word in path.name.lower() for word in _CLAIMS_EVERYTHING))
    return sorted(usable, key=lambda path: (any(word in path.name.lower() for word in _LAST), path.name, str(path)))


def embedded_font_css(texts: Iterable[str]) -> str:
    """Cut the needed letters out of installed fonts, so that an SVG is legible on a machine that has no font for them.

    Args:
        texts: Every text of the figure.

    Returns:
        `@font-face` rules of the family `ftk-names`, for those letters only; empty
        where the base font has every letter, or no font has the others.
    """
    whole = "".join(texts)
    rare = missing_letters(whole, [base_font()])
    rules: list[str] = []
    for path in pick_fonts(["".join(rare)])[1:] if rare else ():
        letters = "".join(c for c in rare if c in coverage(path))
        content = _subset(path, letters)
        if sum(map(len, rules)) + len(content) * 4 // 3 <= MAX_EMBEDDED_BYTES:
            ranges = ",".join(f"U+{ord(c):x}" for c in letters)
            data = base64.b64encode(content).decode("ascii")
            rules.append(
                f"@font-face{{font-family:ftk-names;font-weight:100 900;unicode-range:{ranges},U+200c-200d;"
                f"src:url(data:font/woff;base64,{data}) format('woff')}}"
            )
    return "".join(rules)


@functools.lru_cache(maxsize=32)  # several figures of a run need the same letters
def _subset(path: Path, letters: str) -> bytes:
    from fontTools import subset  # type: ignore[import-untyped, unused-ignore]
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped, unused-ignore]

    options = subset.Options(layout_features=["*"], notdef_outline=True)
    with TTFont(path, fontNumber=0, lazy=True, recalcTimestamp=False) as font:
        subsetter = subset.Subsetter(options)
        subsetter.populate(text=letters + " \u200c\u200d")
        subsetter.subset(font)
        font.flavor = "woff"
        stream = io.BytesIO()
        font.save(stream)
    return stream.getvalue()
