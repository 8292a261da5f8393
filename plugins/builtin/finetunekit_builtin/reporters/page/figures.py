"""The page's own vector figures: narrow enough to be read on a phone, restyled by the page in light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from finetunekit.reports.html import Html, h, scrolling

from ..axes import Panel, Series, draw_panel, legend_height_px
from ..learning_curves import curve_series, stage_rules
from ..scene import BLUE, Drawing, Item, Line, Marks, Rects, Text
from ..svg import to_svg

if TYPE_CHECKING:
    Row = Mapping[str, str]

_CURVES: tuple[tuple[Literal["loss", "accuracy"], str, str], ...] = (
    ("loss", "Loss", "cross-entropy, nats"),
    ("accuracy", "Accuracy", "accuracy, %"),
)
WIDTH_PX, HEIGHT_PX, LEFT_PX, TOP_PX = 330, 220, 62, 62


def inline(drawing: Drawing) -> Html:
    """A figure inside the page, in a box that scrolls where it is wider than a phone."""
    svg = Html(to_svg(drawing).decode())
    if drawing.width_px > 480:
        svg = Html(svg.replace("<svg ", f'<svg style="max-width:none;min-width:{min(drawing.width_px, 900)}px" ', 1))
        return h("figure", scrolling(svg, drawing.title))
    return h("figure", svg)


def curve_figures(rows: Sequence[Row]) -> list[Drawing]:
    """Loss and accuracy by epoch, each a figure of its own, so that they stand side by side or one below the other."""
    rules = stage_rules(rows, WIDTH_PX)
    found = []
    for column, title, label in _CURVES:
        series = curve_series(rows, column)
        values = [y for one in series for _, y in one.points] or [0.0]
        y_range = (0.0, max(values) * 1.05 or 1.0) if column == "loss" else (_floor(min(values)), 1.0)
        write = _number if column == "loss" else _percent
        panel = Panel(
            LEFT_PX, TOP_PX, WIDTH_PX, HEIGHT_PX, (0.5, len(rows) + 0.5), y_range, title, "epoch", label, write
        )
        said = "; ".join(", ".join(one.legend) for one in series)
        found.append(
            Drawing(
                f"curve-{column}",
                f"{title} by epoch",
                f"A line plot over {len(rows)} epochs: {said}.",
                LEFT_PX + WIDTH_PX + 20,
                round(TOP_PX + HEIGHT_PX + legend_height_px(series)),
                tuple(draw_panel(panel, series, rules)),
            )
        )
    return found


def reliability_figure(calibration: Mapping[str, Any], split: str) -> Drawing:
    """Accuracy against confidence, one point a bin with its 95 % interval, and the photos of each bin below."""
    bins = [part for part in calibration["bins"] if part["photos"]]
    panel = Panel(
        LEFT_PX, 40, WIDTH_PX, WIDTH_PX * 0.8, (0.0, 100.0), (0.0, 1.0), "", "confidence, %", "right, %", _percent
    )
    points = tuple((100 * part["mean_confidence"], part["accuracy"]) for part in bins)
    series = (Series(points, BLUE, None, False, ("photos of one range of confidence, 95 % interval",)),)
    items: list[Item] = [Line(((panel.x(0), panel.y(0)), (panel.x(100), panel.y(1))), "muted", 1, (4, 4))]
    items += [Text(panel.x(52), panel.y(0.52) + 22, "as sure as right", 11, "muted")]
    items += _whiskers(panel, bins)
    drawn = [item for item in draw_panel(panel, series) if not _is_joining(item, panel, points)]
    items += drawn
    below = panel.top + panel.height + legend_height_px(series) + 18
    items += _histogram(panel, calibration["bins"], below)
    said = "; ".join(
        f"confidence {100 * part['low']:.0f} to {100 * part['high']:.0f} %: {part['correct']} of {part['photos']} right"
        for part in bins
    )
    title = f"Reliability on the {split} split, {calibration['photos']} photos"
    return Drawing("reliability-diagram", title, f"{said}.", LEFT_PX + WIDTH_PX + 20, round(below + 76), tuple(items))


def _is_joining(item: Item, panel: Panel, points: Sequence[tuple[float, float]]) -> bool:
    """The line from bin to bin, which would claim something between them."""
    return isinstance(item, Line) and item.points == tuple((panel.x(x), panel.y(y)) for x, y in points)


def _whiskers(panel: Panel, bins: Sequence[Mapping[str, Any]]) -> Iterator[Item]:
    for part in bins:
        x = panel.x(100 * part["mean_confidence"])
        low, high = panel.y(part["interval"]["low"]), panel.y(part["interval"]["high"])
        yield Line(((x, low), (x, high)), BLUE, 2)
        yield from (Line(((x - 4, y), (x + 4, y)), BLUE, 2) for y in (low, high))
        yield Marks(((x, panel.y(part["accuracy"])),), "disc", BLUE, 4)


def _histogram(panel: Panel, bins: Sequence[Mapping[str, Any]], top: float, height: float = 50) -> Iterator[Item]:
    most = max(part["photos"] for part in bins)
    yield Text(panel.left, top - 6, "photos in each range", 12, "ink")
    for part in bins:
        if part["photos"]:
            left, right = panel.x(100 * part["low"]) + 1, panel.x(100 * part["high"]) - 1
            tall = max(1.0, part["photos"] / most * height)
            yield Rects(((left, top + 14 + height - tall, right - left, tall),), BLUE)
            yield Text((left + right) / 2, top + 10 + height - tall, str(part["photos"]), 11, "muted", "middle")
    yield Line(((panel.left, top + 14 + height), (panel.left + panel.width, top + 14 + height)), "muted")


def _floor(value: float) -> float:
    return max(0.0, math.floor((value - 0.02) * 10) / 10)


def _number(value: float) -> str:
    return f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g}"
