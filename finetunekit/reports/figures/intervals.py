"""Shares with their intervals, drawn one below the other on a common scale."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

from finetunekit.reports.figures.drawing import MAIN, OTHER, Drawing, axes_at, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_PX, ROW_PX, LINE_PX, LINE_CHARACTERS = 432, 46, 18, 52


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


def interval_plot(rows: Sequence[IntervalRow], *, name: str, title: str, axis: str) -> Drawing:
    """Dots with whiskers; labels stand above their row, so that a phone shows them in full.

    Args:
        rows: At least one.
        name: Identifier within the page, ASCII letters, digits and `-`.
        title: What the plot shows.
        axis: Name and unit of the scale.
    """
    said = "; ".join(f"{one_line(row.label)}: {row.says}" for row in rows)
    return Drawing(name, title, f"{said}.", partial(_draw, rows=rows, axis=axis))


def _draw(figure: Figure, rows: Sequence[IntervalRow], axis: str) -> None:
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    labels = [_label(row) for row in rows]
    bottoms = list(accumulate(ROW_PX + LINE_PX * label.count("\n") for label in labels))
    axes = axes_at(figure, 0, 0, WIDTH_PX, bottoms[-1])
    low, high = _scale(rows)
    axes.set(xlim=(low, high), ylim=(bottoms[-1], 0), xlabel=axis, yticks=[])
    axes.xaxis.set_major_locator(MultipleLocator(0.1 if high - low < 0.55 else 0.2))
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, label, bottom in zip(rows, labels, bottoms, strict=True):
        weight = "bold" if row.is_main else "normal"
        for across, text, side in ((0, label, "left"), (1, row.says, "right")):
            place = axes.text(across, bottom - 25, text, ha=side, va="bottom", transform=axes.get_yaxis_transform())
            place.set(fontsize=14, weight=weight, linespacing=1.15)
        axes.errorbar(
            row.value,
            bottom - 14,
            xerr=[[max(0.0, row.value - row.low)], [max(0.0, row.high - row.value)]],
            fmt="o" if row.is_main else "s",  # colour is not all that tells them apart
            color=MAIN if row.is_main else OTHER,
            markersize=11 if row.is_main else 9,
        )


def _label(row: IntervalRow) -> str:
    """The label, above its figures where both do not stand side by side."""
    label = textwrap.fill(one_line(row.label), 46)
    return f"{label}\n" if len(row.label) + len(row.says) > LINE_CHARACTERS else label


def _scale(rows: Sequence[IntervalRow]) -> tuple[float, float]:
    """Ends in whole steps of 10 % around every interval."""
    low = max(0.0, math.floor(min(row.low for row in rows) * 10 + 1e-9) / 10)
    high = min(1.0, math.ceil(max(row.high for row in rows) * 10 - 1e-9) / 10)
    return (low, high) if high - low > 0.05 else (max(0.0, low - 0.1), min(1.0, low + 0.1))
