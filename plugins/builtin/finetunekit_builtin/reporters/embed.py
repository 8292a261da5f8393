"""The few letters of a figure that a reader's machine may have no font for, carried inside the SVG."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterable
from pathlib import Path

from finetunekit.fonts import base_font, coverage, missing_letters, pick_fonts

MAX_EMBEDDED_BYTES = 120_000


def embedded_font_css(texts: Iterable[str]) -> str:
    """Cut the needed letters out of installed fonts, so that an SVG is legible on a machine that has no font for them.

    Args:
        texts: Every text of the figure.

    Returns:
        `@font-face` rules of the family `ftk-names`, for those letters only; empty
        where the base font has every letter, or no font has the others.
    """
    whole = "".join(texts)
    base = base_font()
    rare = missing_letters(whole, [base] if base is not None else [])
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
