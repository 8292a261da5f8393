"""Learning curves: loss and accuracy of every epoch, with the denominators they were counted over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from finetunekit import RunError
from finetunekit.reports.figures import (
    CONTRAST,
    MAIN,
    MUTED,
    Drawing,
    axes_at,
    figure_files,
    one_line,
)

from .options import LearningCurvesOptions
from .solved import is_solved

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from finetunekit import FinishedRun

    Row = Mapping[str, str]

Column = Literal["loss", "accuracy"]
UNITS: dict[Column, str] = {"loss": "cross-entropy, nats", "accuracy": "accuracy, %"}
#: Column → what is drawn of training and of validation: both plain cross-entropy, whatever the stage made smaller.
DRAWN: dict[Column, tuple[str, str]] = {"loss": ("log_loss", "val_loss"), "accuracy": ("accuracy", "val_accuracy")}
MAX_MARKED_EPOCHS = 60  # beyond it, marks would hide the line
BETWEEN_PX = 80


def build_learning_curves(options: LearningCurvesOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Draw loss and accuracy by epoch, training and validation.

    Args:
        options: Size and formats.
        run: A finished run; its epoch log is read.

    Returns:
        `learning_curves.svg` and `learning_curves.png`, as asked for; nothing for a run that has no epochs: one whose stages were
        all solved, or an ensemble.

    Raises:
        RunError: If the epoch log is empty.
    """
    if is_solved(run) or "ensemble" in run.state:
        return {}
    return figure_files(draw_learning_curves(options, run.epochs), options.formats, run.stand_in)


def draw_learning_curves(options: LearningCurvesOptions, rows: Sequence[Row]) -> Drawing:
    """Two panels side by side, loss in nats and accuracy in percent, over the epochs of all stages."""
    if not rows:
        raise RunError("learning_curves: epochs.csv has no row. Train at least one epoch, or drop this reporter.")
    title = "Learning curves: loss and accuracy by epoch"
    said = ". ".join(f"{column} of {legend}" for column in UNITS for legend in _legends(rows, column)).replace(
        "\n", "; "
    )
    size = (options.panel_width_px, options.panel_height_px)
    draw = partial(_draw, rows=rows, columns=tuple(UNITS), size=size)
    return Drawing("learning-curves", title, f"Two line plots over {_length(rows)}. {said}.", draw)


def draw_curve(rows: Sequence[Row], column: Column) -> Drawing:
    """One of the two panels as a figure of its own, narrow enough for a phone."""
    said = "; ".join(legend.replace("\n", ", ") for legend in _legends(rows, column))
    draw = partial(_draw, rows=rows, columns=(column,), size=(360, 220))
    title = f"{column.capitalize()} by epoch"
    return Drawing(f"curve-{column}", title, f"A line plot over {_length(rows)}: {said}.", draw)


def _length(rows: Sequence[Row]) -> str:
    solved = sum(after["epoch"] == before["epoch"] for before, after in pairwise([{"epoch": "0"}, *rows]))
    epochs = len(rows) - solved
    return f"{epochs} {'epoch' if epochs == 1 else 'epochs'}"


def _draw(figure: Figure, rows: Sequence[Row], columns: Sequence[Column], size: tuple[int, int]) -> None:
    for i, column in enumerate(columns):
        _draw_panel(axes_at(figure, i * (size[0] + BETWEEN_PX), 0, *size), rows, column, size)


def _draw_panel(axes: Axes, rows: Sequence[Row], column: Column, size: tuple[int, int]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    xs = positions(rows)
    axes.set_title(column.capitalize(), pad=26)
    axes.set(xlabel=_axis_label(rows, size[0]), ylabel=UNITS[column], xlim=(xs[0] - 0.5, xs[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    mark: dict[str, Any] = {
        "markevery": 1 if len(rows) <= MAX_MARKED_EPOCHS else [],
        "markersize": 7 if len(rows) < 20 else 4,
    }
    lines = zip(DRAWN[column], (MAIN, CONTRAST), ("-", "--"), ("o", "s"), strict=True)
    drawn = [(*line, values) for line in lines if any(map(math.isfinite, values := _values(rows, line[0])))]
    for legend, (_, colour, dash, marker, values) in zip(_legends(rows, column), drawn, strict=True):
        for start, end in _stages(rows):  # what one stage ended with is no step on the way of the next
            style = {**mark, "markevery": 1} if end - start == 1 else mark
            label = None if start else legend
            axes.plot(xs[start:end], values[start:end], dash, color=colour, marker=marker, label=label, **style)
    finite = [value for *_, values in drawn for value in values if math.isfinite(value)] or [0.0]
    if column == "loss":
        axes.set_ylim(0.0, max(finite) * 1.05 or 1.0)
    else:
        axes.set_ylim(max(0.0, math.floor((min(finite) - 0.02) * 10) / 10), 1.0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0, ""))
    _draw_stages(axes, rows, size[0])
    below = -(48 + 16 * axes.get_xlabel().count("\n"))
    axes.legend(loc="upper left", bbox_to_anchor=(0, below / size[1]), borderpad=0, borderaxespad=0, handlelength=2.5)


def positions(rows: Sequence[Row]) -> list[float]:
    """Where each row stands: its epoch; a stage that was solved, which has none, in a place of its own before the next epoch."""
    found: list[float] = []
    for row in rows:
        epoch, last = float(row["epoch"]), found[-1] if found else -math.inf
        found.append(epoch if epoch > last else last + 0.5)
    return found


def _stages(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """First row of each stage, and the one after its last."""
    starts = [i for i, row in enumerate(rows) if i == 0 or row.get("stage") != rows[i - 1].get("stage")]
    return list(zip(starts, [*starts[1:], len(rows)], strict=True))


def _draw_stages(axes: Axes, rows: Sequence[Row], width_px: int) -> None:
    """A vertical rule where each stage begins, with its name, or its number where there is no room; nothing where there is one stage."""
    xs, stages = positions(rows), _stages(rows)
    names = _named(rows, width_px)
    for number, (start, _) in enumerate(stages) if len(stages) > 1 else ():
        edge = (xs[start] + xs[start - 1]) / 2 if start else xs[0] - 0.5
        axes.axvline(edge, color=MUTED, linewidth=1, linestyle=":")
        axes.annotate(
            names[number],
            (edge, 1),
            (4, 5),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            fontsize=11,
            color=MUTED,
        )


def _named(rows: Sequence[Row], width_px: int) -> list[str]:
    """What stands above each stage: its name where there is room for all names, else its number."""
    xs, stages = positions(rows), _stages(rows)
    names = [one_line(rows[start].get("stage") or "") for start, _ in stages]
    whole = xs[-1] - xs[0] + 1
    rooms = [(xs[end - 1] - xs[start] + 1) / whole * width_px - 8 for start, end in stages]
    if all(7 * len(name) <= room for name, room in zip(names, rooms, strict=True)):
        return names
    return [str(number + 1) for number in range(len(names))]


def _axis_label(rows: Sequence[Row], width_px: int) -> str:
    """`epoch`, and below it the whole names of stages that stand above as numbers."""
    import textwrap

    stages = _stages(rows)
    if len(stages) < 2 or _named(rows, width_px)[0] != "1":
        return "epoch"
    names = ", ".join(f"{i + 1}: {one_line(rows[start].get('stage') or '')}" for i, (start, _) in enumerate(stages))
    return "\n".join(["epoch", *textwrap.wrap(f"stage {names}", max(20, width_px // 7))])


def _values(rows: Sequence[Row], column: str) -> list[float]:
    """One value an epoch, counted over all stages; not a number where none was logged."""
    return [float(row.get(column) or "nan") for row in rows]


def _legends(rows: Sequence[Row], column: Column) -> list[str]:
    """What each line is and where it ends, training first, for those that were logged."""
    drawn = dict(zip(("", "val_"), DRAWN[column], strict=True))
    prefixes = [prefix for prefix, name in drawn.items() if any(map(math.isfinite, _values(rows, name)))]
    return ["\n".join(_legend(rows, column, prefix)) for prefix in prefixes]


def _legend(rows: Sequence[Row], column: Column, prefix: str) -> list[str]:
    last = rows[-1]
    if column == "loss":
        name = DRAWN[column][1 if prefix else 0]
        return [_who(rows, prefix), f"last epoch: {float(last.get(name) or 'nan'):.4f}"]
    lines = [_who(rows, prefix), _count(last, f"{prefix}correct", f"{prefix}draws", "draws")]
    lines += [_count(last, "val_photos_correct", "val_photos", "photos")] if prefix else []
    return [line for line in lines if line]


def _who(rows: Sequence[Row], prefix: str) -> str:
    """Such as `validation, 360 draws of 200 photos`."""
    draws = _range([row.get(f"{prefix}draws") for row in rows])
    text = f"{'validation' if prefix else 'training'}, {draws} draws"
    photos = _range([row.get("val_photos") for row in rows]) if prefix else ""
    return f"{text} of {photos} photos" if photos else f"{text} an epoch"


def _range(values: Sequence[str | None]) -> str:
    numbers = sorted({int(float(value)) for value in values if value})
    return "" if not numbers else str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"


def _count(row: Row, correct: str, total: str, unit: str) -> str:
    if not row.get(correct) or not row.get(total):
        return ""
    right, seen = int(float(row[correct])), int(float(row[total]))
    return f"last epoch: {right} of {seen} {unit} ({100 * right / seen:.1f} %)" if seen else ""
