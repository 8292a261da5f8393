"""Figures in words, as every section of the page writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(share: float | None) -> str:
    """`91.3 %`, or a dash."""
    return "–" if share is None else f"{100 * share:.1f} %"


def count(number: int, noun: str) -> str:
    """`1 photo`, `1,584 photos`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def between(interval: Mapping[str, Any] | None) -> str:
    """`86.6 to 95.2 %`, an interval of a share."""
    if interval is None:
        return "–"
    return f"{100 * max(0.0, interval['low']):.1f} to {100 * min(1.0, interval['high']):.1f} %"


def between_plain(interval: Mapping[str, Any] | None, digits: int = 3) -> str:
    """`0.141 to 0.297`, an interval of anything else."""
    return "–" if interval is None else f"{interval['low']:.{digits}f} to {interval['high']:.{digits}f}"


def of(score: Mapping[str, Any]) -> str:
    """`146 of 160`."""
    return f"{score['successes']:,} of {score['photos']:,}"


def size(number_bytes: float) -> str:
    """`56.2 MB`."""
    return f"{number_bytes / 1e6:.1f} MB" if number_bytes >= 1e5 else f"{number_bytes / 1e3:.1f} kB"


def seconds(value: float) -> str:
    """`8.2 s`, `6 min 10 s`, `1 h 3 min`."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
