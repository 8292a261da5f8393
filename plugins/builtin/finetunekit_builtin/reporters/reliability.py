"""The reliability diagram: how often photos of a given confidence were right."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from finetunekit.reports.figures import MAIN, MUTED, Drawing, axes_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX, HISTOGRAM_PX = 360, 290, 60


def draw_reliability(calibration: Mapping[str, Any], split: str) -> Drawing:
    """Accuracy against confidence, one point a bin with its 95 % interval, and the photos of each bin below.

    Args:
        calibration: As `metrics.json` has it: `photos` and `bins`.
        split: Named in the title.
    """
    said = "; ".join(
        f"confidence {100 * part['low']:.0f} to {100 * part['high']:.0f} %: {part['correct']} of {part['photos']} right"
        for part in calibration["bins"]
        if part["photos"]
    )
    title = f"Reliability on the {split} split, {calibration['photos']} photos"
    return Drawing("reliability-diagram", title, f"{said}.", partial(_draw, calibration=calibration))


def _draw(figure: Figure, calibration: Mapping[str, Any]) -> None:
    from matplotlib.ticker import PercentFormatter

    bins = [part for part in calibration["bins"] if part["photos"]]
    axes = axes_at(figure, 0, 0, WIDTH_PX, HEIGHT_PX)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence, %", ylabel="right, %")
    axes.axline((0, 0), (1, 1), color=MUTED, linewidth=1, linestyle="--")
    axes.annotate("as sure as right", (0.1, 0.1), (12, -6), textcoords="offset points", fontsize=11, color=MUTED)
    shares = [part["accuracy"] for part in bins]
    below = [max(0.0, part["accuracy"] - part["interval"]["low"]) for part in bins]
    above = [max(0.0, part["interval"]["high"] - part["accuracy"]) for part in bins]
    sure = [part["mean_confidence"] for part in bins]
    label = "photos of one range of confidence, 95 % interval"
    axes.errorbar(sure, shares, yerr=[below, above], fmt="o", color=MAIN, label=label, clip_on=False)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -48 / HEIGHT_PX), borderpad=0, borderaxespad=0)
    counts = axes_at(figure, 0, HEIGHT_PX + 110, WIDTH_PX, HISTOGRAM_PX)
    counts.set_title("photos in each range", fontsize=12, weight="normal", pad=16)
    counts.set(xlim=(0, 1), yticks=[])
    counts.spines["left"].set_visible(False)
    lows, widths = [part["low"] for part in bins], [part["high"] - part["low"] for part in bins]
    drawn = counts.bar(
        lows, [part["photos"] for part in bins], [0.97 * width for width in widths], align="edge", color=MAIN
    )
    counts.bar_label(drawn, fontsize=11, color=MUTED, padding=2)
    for one in (axes, counts):
        one.xaxis.set_major_formatter(PercentFormatter(1, 0, ""))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0, ""))
