"""The losses of a search over one of its settings, and how much of their spread each setting explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from finetunekit.reports.figures.drawing import CONTRAST, INK, MAIN, MUTED, OTHER, Drawing, axes_at, one_line, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH_PX, HEIGHT_PX = 400, 250
_BAR_PX, _LABEL_COLUMNS = 26, 34


@dataclass(frozen=True, slots=True)
class SlicePoint:
    """One trial.

    Attributes:
        label: Its value, short.
        number: Its value where it is a number.
        loss: Nats; None where it was stopped early.
        is_preset: Whether it is the preset itself.
        is_best: Whether it has the lowest loss.
    """

    label: str
    number: float | None
    loss: float | None
    is_preset: bool = False
    is_best: bool = False


def slice_plot(
    points: Sequence[SlicePoint], *, name: str, title: str, x_axis: str, y_axis: str, is_log: bool = False
) -> Drawing:
    """Draw losses over a setting, the best and the preset marked; trials that were stopped early are ticks at the upper edge.

    Args:
        points: One a trial, one of them with a loss at least; those of one label stand above one another where any is no number.
        name: Identifier within the page, ASCII letters, digits and `-`.
        title: What the plot shows.
        x_axis: Name of the setting.
        y_axis: Name of the loss.
        is_log: Whether numbers stand on a logarithmic scale.
    """
    said = "; ".join(f"{one_line(p.label)}: {p.loss:.4f}{_marks(p)}" for p in points if p.loss is not None)
    draw = partial(_draw, points=points, x_axis=x_axis, y_axis=y_axis, is_log=is_log)
    return Drawing(name, title, f"{said}.", draw)


def _marks(point: SlicePoint) -> str:
    return (" (the best)" if point.is_best else "") + (" (the preset)" if point.is_preset else "")


def _draw(figure: Figure, points: Sequence[SlicePoint], x_axis: str, y_axis: str, *, is_log: bool) -> None:
    axes = axes_at(figure, 0, 0, WIDTH_PX, HEIGHT_PX)
    xs = _place(axes, points, is_log=is_log)
    losses = [point.loss for point in points if point.loss is not None]
    is_steep = max(losses) > 4 * min(losses) > 0
    if is_steep:
        axes.set_yscale("log")
    _label(axes.yaxis, is_log=is_steep, tenfolds=max(losses) / max(min(losses), 1e-9))
    axes.set(xlabel=x_axis + (", logarithmic" if axes.get_xscale() == "log" else ""))
    axes.set_title(y_axis + (", logarithmic" if axes.get_yscale() == "log" else ""), fontsize=12, weight="normal")
    axes.spines[:].set_visible(False)
    top = axes.get_xaxis_transform()
    for x, point in zip(xs, points, strict=True):
        if point.loss is None:
            axes.plot([x], [0.99], "|", transform=top, color=MUTED, markersize=9, clip_on=False)
        else:
            axes.plot([x], [point.loss], **_look(point), clip_on=False)


def _look(point: SlicePoint) -> dict[str, Any]:
    """Shape and colour, each of which tells them apart."""
    if point.is_best:
        return {"marker": "*", "color": MAIN, "markersize": 17, "zorder": 4}
    if point.is_preset:
        return {"marker": "D", "color": CONTRAST, "markersize": 9, "zorder": 3}
    return {"marker": "o", "color": OTHER, "markersize": 7, "alpha": 0.75}


def _place(axes: Axes, points: Sequence[SlicePoint], *, is_log: bool) -> list[float]:
    """Where each stands: by its number, or with those of the same label where any has none."""
    numbers = [point.number for point in points if point.number is not None]
    if len(numbers) == len(points):
        if is_log:
            axes.set_xscale("log")
        _label(
            axes.xaxis,
            is_log=is_log,
            tenfolds=max(numbers) / min(numbers) if is_log else 0,
            is_whole=_are_whole(numbers),
        )
        return numbers
    labels = list(dict.fromkeys(point.label for point in points))
    axes.set_xticks(range(len(labels)), [shortened(one_line(label), 12) for label in labels])
    axes.set_xlim(-0.5, len(labels) - 0.5)
    return [float(labels.index(point.label)) for point in points]


def _are_whole(numbers: Sequence[float]) -> bool:
    return all(float(number).is_integer() for number in numbers)


def _label(axis: Axis, *, is_log: bool, tenfolds: float, is_whole: bool = False) -> None:
    """Ticks that can be read: on a logarithmic scale 1, 10, 100, or where it is short 1, 2, 5, 10."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if is_log:
        axis.set_major_locator(LogLocator(subs=(1.0,) if tenfolds > 300 else (1.0, 2.0, 5.0), numticks=12))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(6, integer=is_whole))
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))


def importance_plot(shares: Mapping[str, float], *, name: str, title: str) -> Drawing:
    """Draw how much of the spread of the loss each setting explains.

    Args:
        shares: Key of a setting → its share, together 1.
        name: Identifier within the page.
        title: What the plot shows.
    """
    ranked = sorted(shares.items(), key=lambda pair: pair[1])
    said = "; ".join(f"{one_line(key)}: {100 * share:.0f} %" for key, share in reversed(ranked))
    return Drawing(name, title, f"{said}.", partial(_draw_shares, ranked=ranked))


def _draw_shares(figure: Figure, ranked: Sequence[tuple[str, float]]) -> None:
    height = _BAR_PX * len(ranked)
    axes = axes_at(figure, 0, 0, WIDTH_PX, 2 * height)
    axes.barh(range(len(ranked)), [share for _, share in ranked], height=0.32, color=MAIN)
    axes.set(xlim=(0, 1.12), ylim=(-0.5, len(ranked) - 0.2), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    for place, (key, share) in enumerate(ranked):
        axes.text(0, place + 0.22, shortened(one_line(key), _LABEL_COLUMNS + 8), color=INK, va="bottom")
        axes.text(share + 0.015, place, f"{100 * share:.0f} %", color=MUTED, va="center")
