"""Amounts, names and errors as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class HasEnds(Protocol):
    """An interval, such as `finetunekit.statistics.Interval`; as plain values it is a mapping with `low` and `high`."""

    @property
    def low(self) -> float:
        """Lower end."""

    @property
    def high(self) -> float:
        """Upper end."""


def show_bytes(count: int) -> str:
    """`12 kB`, `900 MB`, `1.4 GB`."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 photo`, `1,584 photos`, `2 classes`; the one place that makes a plural.

    Args:
        number: How many.
        noun: Of one.
        plural: Of several; None: the noun with an s, or es after s, x, z, ch and sh.
    """
    ending = "es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s"
    return f"{number:,} {noun if number == 1 else plural or noun + ending}"


def show_penalties(mixture: Sequence[Sequence[float]]) -> str:
    """`penalty 1.0e-02`, or of several with their weights, strongest first, `penalties 1.0e-02 to 3.2e-04, weighted`."""
    first, last = mixture[0][0], mixture[-1][0]
    return f"penalty {first:.1e}" if len(mixture) == 1 else f"penalties {first:.1e} to {last:.1e}, weighted"


def show_percent(fraction: float) -> str:
    """`91.9 %`."""
    return f"{100 * fraction:.1f} %"


def show_between(interval: Mapping[str, Any] | HasEnds) -> str:
    """`between 86.6 and 95.2 %`, an interval of fractions."""
    low, high = _ends(interval, 0.0)
    return f"between {100 * low:.1f} and {100 * high:.1f} %"


def show_expected(interval: Mapping[str, Any] | HasEnds) -> str:
    """`87 to 98 %`: an interval of fractions in whole per cent, rounded outwards; with a decimal where it is narrower than 3 points."""
    low, high = (100 * end for end in _ends(interval, 0.0))
    if high - low < 3.0:
        return f"{low:.1f} to {high:.1f} %"
    return f"{math.floor(low + 1e-9)} to {math.ceil(high - 1e-9)} %"


def show_range(interval: Mapping[str, Any] | HasEnds) -> str:
    """`86.6 to 95.2`, an interval of fractions in per cent."""
    low, high = _ends(interval, 0.0)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def show_points_range(interval: Mapping[str, Any] | HasEnds) -> str:
    """`-20.1 to +3.0`, an interval of a difference of fractions in percentage points."""
    low, high = _ends(interval, -1.0)
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def show_points(fraction: float) -> str:
    """`5.89 points`, `1 point`."""
    text = f"{100 * fraction:g}"
    return f"{text} point{'' if text == '1' else 's'}"


def _ends(interval: Mapping[str, Any] | HasEnds, least: float) -> tuple[float, float]:
    """Within what is possible: a t-interval knows nothing of 0 and 100 %, the text does."""
    low, high = (interval["low"], interval["high"]) if isinstance(interval, Mapping) else (interval.low, interval.high)
    return max(least, low), min(1.0, high)


def escaped(text: str) -> str:
    """The text as in a Python literal: line breaks, control characters, broken bytes and backslashes escaped; no two look alike."""
    return repr(text)[1:-1]


def one_line(error: object, limit: int = 300) -> str:
    """Text of an error on one printable line of bounded length; its class where it says nothing."""
    try:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    except Exception:  # noqa: BLE001 - an error of a plugin's own class may fail at saying what it is
        said = f"{type(error).__name__}, which cannot say more"
    text = " ".join(said.split()) or type(error).__name__
    text = text if text.isprintable() else escaped(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def show_duration(seconds: float) -> str:
    """`41 s`, `6 min 10 s`, `2 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
