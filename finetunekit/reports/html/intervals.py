"""Shares with their intervals, drawn one below the other on a common scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from finetunekit.reports.html.drawing import dot, line, plot, text
from finetunekit.reports.html.markup import Html

WIDTH_PX, LEFT_PX, RIGHT_PX, ROW_PX, LINE_PX, TOP_PX, AXIS_PX = 480, 14, 14, 46, 18, 4, 44
LINE_CHARACTERS = 52
"""Label and figures of a row that stand side by side; longer ones stand below each other."""


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """One share.

    Attributes:
        label: What it is.
        value: In [0, 1].
        low: Lower end of its interval.
        high: Upper end.
        says: Figures in words, at the right of the label, or below a long one.
        is_main: Whether it is the one the plot is about.
    """

    label: str
    value: float
    low: float
    high: float
    says: str
    is_main: bool = False


def interval_plot(rows: Sequence[IntervalRow], *, name: str, title: str, axis: str) -> Html:
    """Dots with whiskers, as inline SVG; labels stand above their row, so that a phone shows them in full.

    Args:
        rows: At least one.
        name: Identifier within the page, ASCII letters, digits and `-`.
        title: What the plot shows.
        axis: Name and unit of the scale.
    """
    low, high = _scale(rows)

    def x(value: float) -> float:
        return round(LEFT_PX + (value - low) / (high - low) * (WIDTH_PX - LEFT_PX - RIGHT_PX), 1)

    tops = list(accumulate((_height(row) for row in rows), initial=TOP_PX))
    bottom = tops[-1]
    said = "; ".join(f"{row.label}: {row.says}" for row in rows)
    parts: list[Html] = []
    for tick in _ticks(low, high):
        anchor = "start" if tick <= low + 1e-9 else "end" if tick >= high - 1e-9 else "middle"
        parts.append(line(x(tick), TOP_PX, x(tick), bottom, "ftk-grid-stroke"))
        parts.append(text(x(tick), bottom + 16, f"{100 * tick:.0f} %", "ftk-muted-fill", anchor))
    parts.append(text(WIDTH_PX / 2, bottom + 36, axis, "ftk-ink-fill", "middle"))
    for top, row in zip(tops, rows, strict=False):  # the last one is the bottom
        parts += _row(row, top, x)
    return plot(parts, name=name, title=title, says=f"{said}.", width_px=WIDTH_PX, height_px=bottom + AXIS_PX)


def _row(row: IntervalRow, top: float, x: Callable[[float], float]) -> list[Html]:
    says = top + 16 + _height(row) - ROW_PX
    middle, kind = says + 16, "main" if row.is_main else "other"
    weight = "bold" if row.is_main else None
    return [
        text(LEFT_PX, top + 16, row.label, "ftk-ink-fill", "start", weight),
        text(WIDTH_PX - RIGHT_PX, says, row.says, "ftk-ink-fill", "end", weight),
        line(x(row.low), middle, x(row.high), middle, f"whisker-{kind}"),
        *(line(x(end), middle - 5, x(end), middle + 5, f"whisker-{kind}") for end in (row.low, row.high)),
        dot(x(row.value), middle, is_main=row.is_main),
    ]


def _height(row: IntervalRow) -> int:
    return ROW_PX + (LINE_PX if len(row.label) + len(row.says) > LINE_CHARACTERS else 0)


def _scale(rows: Sequence[IntervalRow]) -> tuple[float, float]:
    """Ends in whole steps of 10 % around every interval."""
    low = math.floor(min(row.low for row in rows) * 10 + 1e-9) / 10
    high = math.ceil(max(row.high for row in rows) * 10 - 1e-9) / 10
    low, high = max(0.0, low), min(1.0, high)
    return (low, high) if high - low > 0.05 else (max(0.0, low - 0.1), min(1.0, low + 0.1))


def _ticks(low: float, high: float) -> list[float]:
    tenths = round((high - low) * 10)
    step = 1 if tenths <= 5 else 2
    return (
        [high - i / 10 for i in reversed(range(0, tenths + 1, step))] if tenths > 1 else [low, (low + high) / 2, high]
    )
