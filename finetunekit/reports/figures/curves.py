"""Shares over the values of a setting: dots with whiskers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from finetunekit.reports.figures.drawing import INK, MAIN, MUTED, OTHER, Drawing, axes_at, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX = 408, 228


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One value of the setting.

    Attributes:
        label: The value, short.
        number: The value where it is a number.
        value: Share, in [0, 1].
        low: Lower end of its interval.
        high: Upper end.
        is_main: Whether it is the one that others are compared with.
    """

    label: str
    number: float | None
    value: float
    low: float
    high: float
    is_main: bool = False


def curve_plot(points: Sequence[CurvePoint], *, name: str, title: str, x_axis: str, y_axis: str) -> Drawing:
    """Draw shares with their intervals over a setting.

    Numbers stand at their distance (on a logarithmic scale where that keeps their labels apart and a linear one does not); anything
    else, and numbers too close on both, stand evenly spaced, and the axis says so. Numbers are joined by a line.

    Args:
        points: At least one; numbers in rising order are joined.
        name: Identifier within the page, ASCII letters, digits and `-`.
        title: What the plot shows.
        x_axis: Name and unit of the setting.
        y_axis: Name of the share.
    """
    said = "; ".join(
        f"{one_line(p.label)}: {100 * p.value:.1f} % ({100 * p.low:.1f} to {100 * p.high:.1f})" for p in points
    )
    return Drawing(name, title, f"{said}.", partial(_draw, points=points, x_axis=x_axis, y_axis=y_axis))


def _draw(figure: Figure, points: Sequence[CurvePoint], x_axis: str, y_axis: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    xs, scale = _positions(points)
    low = min(point.low for point in points)
    high = max(point.high for point in points)
    axes = axes_at(figure, 0, 0, WIDTH_PX, HEIGHT_PX)
    axes.set(xlim=(-0.07, 1.07), ylim=_range(low, high), xlabel=f"{x_axis}{scale}")
    axes.set_title(y_axis, fontsize=12, weight="normal")  # on its side it could not be read on a phone
    axes.set_xticks(xs, [one_line(point.label) for point in points])
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    axes.spines[:].set_visible(False)
    if len(points) > 1 and all(point.number is not None for point in points):
        axes.plot(xs, [point.value for point in points], color=MUTED, linewidth=1)
    for x, point, label in zip(xs, points, axes.get_xticklabels(), strict=True):
        label.set_color(INK if point.is_main else MUTED)
        axes.errorbar(
            x,
            point.value,
            yerr=[[max(0.0, point.value - point.low)], [max(0.0, point.high - point.value)]],
            fmt="o" if point.is_main else "s",  # colour is not all that tells them apart
            color=MAIN if point.is_main else OTHER,
            markersize=11 if point.is_main else 9,
        )


def _positions(points: Sequence[CurvePoint]) -> tuple[list[float], str]:
    """Shares of the width, and what to say of the scale."""
    numbers = [point.number for point in points if point.number is not None]
    labels = [point.label for point in points]
    if len(numbers) == len(points) > 1:
        for scaled, words in _scales(numbers):
            xs = _spread(scaled)
            if _is_readable(xs, labels):
                return xs, words
    return _spread(list(range(len(points)))), ", evenly spaced" if len(numbers) == len(points) > 1 else ""


def _scales(numbers: Sequence[float]) -> list[tuple[list[float], str]]:
    scales = [(list(numbers), "")]
    if min(numbers) > 0:
        scales.append(([math.log(number) for number in numbers], ", logarithmic"))
    return scales


def _spread(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.5 for value in values]


def _is_readable(xs: Sequence[float], labels: Sequence[str]) -> bool:
    """Whether no two labels touch; a digit is about 8 px wide."""
    placed = sorted(zip(xs, labels, strict=True))
    return all((b - a) * 0.88 * WIDTH_PX >= 4 * (len(p) + len(q)) + 6 for (a, p), (b, q) in pairwise(placed))


def _range(low: float, high: float) -> tuple[float, float]:
    """Ends in whole steps of 5 % around every interval."""
    low, high = max(0.0, math.floor(low * 20 + 1e-9) / 20), min(1.0, math.ceil(high * 20 - 1e-9) / 20)
    return (low, high) if high - low >= 0.1 else (max(0.0, high - 0.1), max(high, 0.1))
