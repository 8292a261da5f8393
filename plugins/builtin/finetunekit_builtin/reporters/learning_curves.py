"""Learning curves: loss and accuracy of every epoch, with the denominators they were counted over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from finetunekit import Options, RunError

from .axes import Panel, Series, draw_panel, legend_height_px
from .output import Format, figure_files
from .scene import BLUE, VERMILION, Drawing, Item, one_line, shortened, width_px
from .solved import is_solved

if TYPE_CHECKING:
    from finetunekit import FinishedRun

    Row = Mapping[str, str]

DASH = (7.0, 4.0)
PANEL_TOP = 62.0


class LearningCurvesOptions(Options):
    """Options of `learning_curves`."""

    formats: tuple[Format, ...] = Field(("svg",), min_length=1, description="Files to make.")
    panel_width_px: int = Field(400, ge=200, le=2000, description="Width of each of the two plots.")
    panel_height_px: int = Field(260, ge=120, le=2000, description="Height of each of the two plots.")


def build_learning_curves(options: LearningCurvesOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Draw loss and accuracy by epoch, training and validation.

    Args:
        options: Size and formats.
        run: A finished run; its epoch log is read.

    Returns:
        `learning_curves.svg` and `learning_curves.png`, as asked for; nothing for a run whose stages were all solved in closed form:
        it has no epochs.

    Raises:
        RunError: If the epoch log is empty.
    """
    if is_solved(run):
        return {}
    return figure_files(draw_learning_curves(options, run.epochs), options.formats, run.stand_in)


def draw_learning_curves(options: LearningCurvesOptions, rows: Sequence[Row]) -> Drawing:
    """Two panels side by side, loss in nats and accuracy in percent, over the epochs of all stages."""
    if not rows:
        raise RunError("learning_curves: epochs.csv has no row. Train at least one epoch, or drop this reporter.")
    loss, accuracy = curve_series(rows, "loss"), curve_series(rows, "accuracy")
    w, h = options.panel_width_px, options.panel_height_px
    x_range = (0.5, len(rows) + 0.5)
    losses = [y for one in loss for _, y in one.points] or [1.0]
    shares = [y for one in accuracy for _, y in one.points] or [0.0]
    top = max(losses) * 1.05 or 1.0
    low = max(0.0, math.floor((min(shares) - 0.02) * 10) / 10)
    left = Panel(64, PANEL_TOP, w, h, x_range, (0.0, top), "Loss", "epoch", "cross-entropy, nats", _decimal)
    right = Panel(w + 144, PANEL_TOP, w, h, x_range, (low, 1.0), "Accuracy", "epoch", "accuracy, %", _percent)
    rules = stage_rules(rows, w)
    items: tuple[Item, ...] = (*draw_panel(left, loss, rules), *draw_panel(right, accuracy, rules))
    below = max(legend_height_px(loss), legend_height_px(accuracy))
    widest = max(_legend_width_px(accuracy), w)
    return Drawing(
        "learning-curves",
        "Learning curves: loss and accuracy by epoch",
        _description(rows, loss, accuracy),
        round(w + 144 + widest + 20),
        round(PANEL_TOP + h + below),
        items,
    )


def curve_series(rows: Sequence[Row], column: Literal["loss", "accuracy"]) -> tuple[Series, ...]:
    """Training and validation of one column of the epoch log, each where it was logged."""
    legend = _loss_legend if column == "loss" else _accuracy_legend
    drawn = ((column, BLUE, None, False, ""), (f"val_{column}", VERMILION, DASH, True, "val_"))
    found = ((_points(rows, name), colour, dash, square, prefix) for name, colour, dash, square, prefix in drawn)
    return tuple(
        Series(points, colour, dash, square, legend(rows, prefix))
        for points, colour, dash, square, prefix in found
        if points
    )


def _points(rows: Sequence[Row], column: str) -> tuple[tuple[float, float], ...]:
    """(epoch counted over all stages, value) where the log has a finite number."""
    values = ((i, float(row.get(column) or "nan")) for i, row in enumerate(rows, start=1))
    return tuple((float(i), value) for i, value in values if math.isfinite(value))


def _loss_legend(rows: Sequence[Row], prefix: str) -> tuple[str, ...]:
    return (_who(rows, prefix), f"last epoch: {float(rows[-1].get(f'{prefix}loss') or 'nan'):.4f}")


def _accuracy_legend(rows: Sequence[Row], prefix: str) -> tuple[str, ...]:
    last = rows[-1]
    lines = [_who(rows, prefix), _count(last, f"{prefix}correct", f"{prefix}draws", "draws")]
    if prefix:
        lines.append(_count(last, "val_photos_correct", "val_photos", "photos"))
    return tuple(line for line in lines if line)


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


def stage_rules(rows: Sequence[Row], panel_width_px: int) -> tuple[tuple[float, str], ...]:
    """A vertical rule where each stage begins, with its name; no rule where there is one stage only."""
    starts = [i for i, row in enumerate(rows) if i == 0 or row.get("stage") != rows[i - 1].get("stage")]
    if len(starts) < 2:
        return ()
    room = {s: (e - s) / len(rows) * panel_width_px - 8 for s, e in zip(starts, [*starts[1:], len(rows)], strict=True)}
    names = {s: shortened(one_line(rows[s].get("stage") or ""), 11, room[s]) for s in starts}
    return tuple((s + 0.5, names[s] if len(names[s]) > 2 and room[s] > 14 else "") for s in starts)


def _description(rows: Sequence[Row], loss: Sequence[Series], accuracy: Sequence[Series]) -> str:
    ends = [
        f"{name} of {'; '.join(one.legend)}"
        for name, group in (("loss", loss), ("accuracy", accuracy))
        for one in group
    ]
    return f"Two line plots over {len(rows)} epochs. {'. '.join(ends)}."


def _legend_width_px(series: Sequence[Series]) -> float:
    return 36 + max((width_px(text, 12) for one in series for text in one.legend), default=0.0)


def _decimal(value: float) -> str:
    return f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g}"
