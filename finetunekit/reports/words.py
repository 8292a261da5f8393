"""Figures in words: filters of every template, and functions for sentences that are made in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from finetunekit.system.formatting import counted, show_expected, show_penalties, show_percent, show_range

__all__ = [
    "NONE",
    "between",
    "between_plain",
    "counted",
    "minus",
    "number",
    "of",
    "percent",
    "seconds",
    "show_expected",
    "show_penalties",
]

NONE = "–"


def number(count: int) -> str:
    """`1,584`."""
    return f"{count:,}"


def of(score: Mapping[str, Any] | None) -> str:
    """`146 of 160`."""
    return f"{score['successes']:,} of {score['photos']:,}" if score else NONE


def percent(share: float | None) -> str:
    """`91.3 %`."""
    return NONE if share is None else show_percent(share)


def between(interval: Mapping[str, Any] | None) -> str:
    """`86.6 to 95.2 %`, an interval of a share."""
    return f"{show_range(interval)} %" if interval else NONE


def between_plain(interval: Mapping[str, Any] | None) -> str:
    """`0.141 to 0.297`, an interval of anything else."""
    return f"{interval['low']:.3f} to {interval['high']:.3f}" if interval else NONE


def seconds(value: float) -> str:
    """`8.2 s`, `6 min 10 s`, `1 h 3 min`."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def minus(text: str) -> str:
    """Text whose negative numbers have a minus sign instead of a hyphen."""
    return re.sub(r"(?<![\w.-])-(?=\d)", "−", text)
