"""Shares over the values of a setting: dots with whiskers, as inline SVG, or as an SVG file of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from finetunekit.reports.html.drawing import dot, line, plot, text
from finetunekit.reports.html.markup import Html, h

WIDTH_PX, HEIGHT_PX = 480, 320
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 58, 14, 36, 56
INSET_PX, LABEL_PX = 26, 8


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


def curve_plot(points: Sequence[CurvePoint], *, name: str, title: str, x_axis: str, y_axis: str) -> Html:
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
    xs, scale = _positions(points)
    low, high = _range(points)
    bottom = HEIGHT_PX - BOTTOM_PX

    def y(value: float) -> float:
        return round(bottom - (min(max(value, low), high) - low) / (high - low) * (bottom - TOP_PX), 1)

    said = "; ".join(f"{p.label}: {100 * p.value:.1f} % ({100 * p.low:.1f} to {100 * p.high:.1f})" for p in points)
    parts = [h("rect", at={"width": WIDTH_PX, "height": HEIGHT_PX, "class": "ftk-paper-fill"})]
    for tick in _ticks(low, high):
        parts.append(line(LEFT_PX, y(tick), WIDTH_PX - RIGHT_PX, y(tick), "ftk-grid-stroke"))
        parts.append(text(LEFT_PX - LABEL_PX, y(tick) + 5, f"{100 * tick:.0f} %", "ftk-muted-fill", "end"))
    if len(points) > 1 and all(p.number is not None for p in points):
        joined = " ".join(f"{x},{y(p.value)}" for x, p in zip(xs, points, strict=True))
        parts.append(h("polyline", at={"points": joined, "fill": "none", "class": "ftk-muted-stroke"}))
    for x, point in zip(xs, points, strict=True):
        parts += _point(point, x, y(point.low), y(point.value), y(point.high), bottom)
    middle = (LEFT_PX + WIDTH_PX - RIGHT_PX) / 2
    parts.append(text(middle, bottom + 46, f"{x_axis}{scale}", "ftk-ink-fill", "middle"))
    parts.append(text(LABEL_PX, 16, y_axis, "ftk-ink-fill", "start"))  # on its side it could not be read on a phone
    return plot(parts, name=name, title=title, says=f"{said}.", width_px=WIDTH_PX, height_px=HEIGHT_PX)


def _point(point: CurvePoint, x: float, low: float, middle: float, high: float, bottom: float) -> list[Html]:
    kind = "main" if point.is_main else "other"
    return [
        line(x, low, x, high, f"whisker-{kind}"),
        *(line(x - 5, end, x + 5, end, f"whisker-{kind}") for end in (low, high)),
        dot(x, middle, is_main=point.is_main),
        line(x, bottom, x, bottom + 5, "ftk-muted-stroke"),
        text(x, bottom + 22, point.label, "ftk-ink-fill" if point.is_main else "ftk-muted-fill", "middle"),
    ]


def _positions(points: Sequence[CurvePoint]) -> tuple[list[float], str]:
    """Pixels from the left, and what to say of the scale."""
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
    left, right = LEFT_PX + INSET_PX, WIDTH_PX - RIGHT_PX - INSET_PX
    low, high = min(values), max(values)
    if high == low:
        return [(left + right) / 2] * len(values)
    return [round(left + (value - low) / (high - low) * (right - left), 1) for value in values]


def _is_readable(xs: Sequence[float], labels: Sequence[str]) -> bool:
    """Whether no two labels touch; a digit is about 8 px wide."""
    placed = sorted(zip(xs, labels, strict=True))
    return all(b - a >= 4 * (len(first) + len(second)) + 6 for (a, first), (b, second) in pairwise(placed))


def _range(points: Sequence[CurvePoint]) -> tuple[float, float]:
    """Ends in whole steps of 5 % around every interval."""
    low = max(0.0, math.floor(min(point.low for point in points) * 20 + 1e-9) / 20)
    high = min(1.0, math.ceil(max(point.high for point in points) * 20 - 1e-9) / 20)
    return (low, high) if high - low >= 0.1 else (max(0.0, high - 0.1), max(high, 0.1))


def _ticks(low: float, high: float) -> list[float]:
    step = next(step for step in (0.02, 0.05, 0.1, 0.2) if (high - low) / step <= 7 or step == 0.2)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]
