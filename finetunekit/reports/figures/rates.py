"""The smoothed loss over the learning rate of a range test, with both suggestions marked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from finetunekit.reports.figures.drawing import INK, MAIN, MUTED, Drawing, axes_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX = 560, 268


def rate_plot(
    stage: str, rates: Sequence[float], losses: Sequence[float], *, suggested: float, at_most: float
) -> Drawing:
    """The loss of each step; one beyond twice the first one is cut off.

    Args:
        stage: Name of the stage that was tested.
        rates: Learning rate of each step, rising.
        losses: Smoothed loss of each step, nats.
        suggested: Rate at which the loss falls most steeply.
        at_most: Highest rate to use.
    """
    says = f"suggested {suggested:.1e}; at most {at_most:.1e}; the smoothed loss goes from {losses[0]:.3g} to {min(losses):.3g}"
    return Drawing(
        "rates",
        f"{stage}: loss of each step of a rising learning rate",
        f"{says} at its lowest.",
        partial(_draw, rates=rates, losses=losses, marks={"suggested": suggested, "at most": at_most}),
    )


def _draw(figure: Figure, rates: Sequence[float], losses: Sequence[float], marks: dict[str, float]) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes = axes_at(figure, 0, 0, WIDTH_PX, HEIGHT_PX)
    floor, top = min(losses), min(max(losses), 2 * losses[0])
    axes.semilogx(rates, losses, color=MAIN, linewidth=2.5)
    axes.set(xlim=(rates[0], rates[-1]), xlabel="learning rate, logarithmic", ylim=(floor, max(top, floor + 1e-9)))
    axes.set_title("smoothed loss, nats", fontsize=12, weight="normal")
    axes.set_yticks([floor, top], [f"{floor:.2f}", f"{top:.2f}"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda rate, _: f"{rate:.0e}".replace("e-0", "e-").replace("e+00", "e0"))
    )
    # Where there is room: the one below the falling curve, the other beyond it.
    for (label, rate), height, is_left in zip(marks.items(), (0.05, 0.5), (True, False), strict=True):
        axes.axvline(rate, color=MUTED, linewidth=1)
        axes.annotate(
            f"{label} {rate:.1e}",
            (rate, height),
            (-6 if is_left else 6, 0),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha="right" if is_left else "left",
            color=INK,
        )
