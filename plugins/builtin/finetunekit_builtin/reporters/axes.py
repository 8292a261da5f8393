"""One panel of a line plot: frame, round ticks, units, lines with marks, vertical rules between stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .scene import Item, Line, Marks, Text

MAX_MARKED_POINTS = 60  # beyond it, marks would hide the line


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel.

    Attributes:
        points: (x, y) in the panel's own units, in order.
        colour: Hexadecimal colour.
        dash: On and off lengths in pixels; None is a solid line.
        is_square: Marked by squares instead of discs, so that colour is not all that tells lines apart.
        legend: Lines of text that say what it is; the first beside its symbol.
    """

    points: tuple[tuple[float, float], ...]
    colour: str
    dash: tuple[float, float] | None
    is_square: bool
    legend: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """Where a plot lies, in pixels, and its ranges and labels, in its own units."""

    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    title: str
    x_label: str
    y_label: str
    format_y: Callable[[float], str]

    def x(self, value: float) -> float:
        """Pixels from the left of the figure."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * self.width

    def y(self, value: float) -> float:
        """Pixels from the top of the figure."""
        low, high = self.y_range
        return self.top + (high - value) / (high - low) * self.height


def round_ticks(low: float, high: float, most: int = 6, least_step: float = 0.0) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`, at most `most` of them."""
    span = max(high - low, least_step, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(
        m * power
        for m in (1, 2, 5, 10, 20)
        if span / (m * power) <= most - 1 + 1e-9 and m * power >= least_step * 0.999
    )
    first = math.ceil(low / step - 1e-9)
    return tuple(step * i for i in range(first, math.floor(high / step + 1e-9) + 1))


def draw_panel(panel: Panel, series: Sequence[Series], rules: Sequence[tuple[float, str]] = ()) -> Iterator[Item]:
    """Items of a plot. `rules` are vertical lines at x with the text to their right."""
    yield from _frame(panel)
    for x, text in rules:
        yield Line(((panel.x(x), panel.top), (panel.x(x), panel.top + panel.height)), "muted", 1, (2, 3))
        yield Text(panel.x(x) + 4, panel.top - 5, text, 11, "muted")
    for one in series:
        points = tuple((panel.x(x), panel.y(y)) for x, y in one.points)
        if len(points) > 1:
            yield Line(points, one.colour, 2, one.dash)
        if len(points) <= MAX_MARKED_POINTS:
            yield Marks(points, "square" if one.is_square else "disc", one.colour, 4 if len(points) < 20 else 2.5)
    yield from _legend(panel, series)


def _frame(panel: Panel) -> Iterator[Item]:
    right, bottom = panel.left + panel.width, panel.top + panel.height
    yield Text(panel.left, panel.top - 24, panel.title, 15, bold=True)
    for value in round_ticks(*panel.y_range):
        yield Line(((panel.left, panel.y(value)), (right, panel.y(value))), "grid")
        yield Text(panel.left - 7, panel.y(value) + 4, panel.format_y(value), 12, "muted", "end")
    for value in round_ticks(*panel.x_range, most=8, least_step=1):
        yield Line(((panel.x(value), bottom), (panel.x(value), bottom + 4)), "muted")
        yield Text(panel.x(value), bottom + 18, f"{value:.0f}", 12, "muted", "middle")
    yield Line(((panel.left, panel.top), (panel.left, bottom), (right, bottom)), "muted")
    yield Text(panel.left + panel.width / 2, bottom + 37, panel.x_label, 12, "ink", "middle")
    yield Text(panel.left - 48, panel.top + panel.height / 2, panel.y_label, 12, "ink", "middle", turn_deg=90)


def _legend(panel: Panel, series: Sequence[Series]) -> Iterator[Item]:
    y = panel.top + panel.height + 62
    for one in series:
        yield Line(((panel.left, y - 4), (panel.left + 28, y - 4)), one.colour, 2, one.dash)
        yield Marks(((panel.left + 14, y - 4),), "square" if one.is_square else "disc", one.colour, 4)
        for text in one.legend:
            yield Text(panel.left + 36, y, text, 12)
            y += 16
        y += 4


def legend_height_px(series: Sequence[Series]) -> int:
    """Height below a panel's frame that its labels and legend need."""
    return 62 + sum(16 * len(one.legend) + 4 for one in series)
