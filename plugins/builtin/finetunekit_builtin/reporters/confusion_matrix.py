"""The confusion matrix: how many photos of each true class were called what."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from finetunekit import RunError, terminal_width, to_cell
from finetunekit.reports.figures import (
    GRID,
    INK,
    MUTED,
    Drawing,
    axes_at,
    figure_files,
    keep_whole,
    one_line,
    shortened,
)

from .options import ConfusionMatrixOptions

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from finetunekit import FinishedRun

    Counts = NDArray[np.int64]

SHADES = 20
MAX_COLUMNS = 24


def build_confusion_matrix(options: ConfusionMatrixOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Count true against predicted class, and draw the counts as a matrix.

    Args:
        options: Split and formats.
        run: A finished run; its metrics and predictions are read.

    Returns:
        `confusion_matrix.csv` and the figures asked for; for a split other than test, `confusion_matrix_<split>`.

    Raises:
        RunError: If the run holds no prediction for the split.
    """
    counts = _counts(options.split, run)
    drawing = draw_confusion_matrix(counts, run.classes, options.split)
    table = {f"{drawing.name.replace('-', '_')}.csv": _table(counts, run.classes)}
    return table | figure_files(drawing, options.formats, run.stand_in)


def _counts(split: str, run: FinishedRun) -> Counts:
    """Counts (true class, predicted class): the engine's where the metrics have them, else of the prediction rows."""
    import numpy as np

    scored = run.metrics.get(split) or {}
    known = scored.get("confusion") if isinstance(scored, Mapping) else None
    if known is not None:
        return np.array(known, np.int64)
    index = {name: i for i, name in enumerate(run.classes)}
    rows = [row for row in run.split_predictions(split) if row["true"] in index]
    if not rows:
        raise RunError(
            f"confusion_matrix: predictions.csv has no labelled photo of split '{split}'. Choose another with `split`."
        )
    counts = np.zeros((len(index), len(index)), np.int64)
    np.add.at(counts, tuple(zip(*((index[row["true"]], index[row["predicted"]]) for row in rows), strict=True)), 1)
    return counts


def _table(counts: Counts, classes: Sequence[str]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["true \\ predicted", *map(to_cell, classes), "photos"])
    for name, row in zip(classes, counts, strict=True):
        writer.writerow([to_cell(name), *row.tolist(), row.sum()])
    return stream.getvalue().encode(errors="surrogateescape")


def draw_confusion_matrix(counts: Counts, classes: Sequence[str], split: str, *, is_titled: bool = True) -> Drawing:
    """A square of cells, rows true and columns predicted, shaded by the share of the row.

    Args:
        counts: Photos, `(true class, predicted class)`.
        classes: Class names in order.
        split: Named in the title.
        is_titled: Whether the title is written above it, which makes a matrix of few classes wider.

    Returns:
        The figure: counts and row percentages up to 12 classes, counts up to 30, shades alone beyond.
    """
    names = [one_line(name) for name in classes]
    total, right = counts.sum(), counts.trace()
    title = f"Confusion matrix, {split} split: {right} of {total} photos right"
    name = "confusion-matrix" if split == "test" else f"confusion-matrix-{split}"
    draw = partial(_draw, counts=counts, names=names, title=title if is_titled else "")
    return Drawing(name, title, _description(counts, names), draw)


def _draw(figure: Figure, counts: Counts, names: Sequence[str], title: str) -> None:
    import matplotlib
    from matplotlib.ticker import PercentFormatter

    n = len(names)
    cell = 64 if n <= 6 else 48 if n <= 12 else 30 if n <= 30 else 12 if n <= 100 else max(1200 / n, 1)
    axes = axes_at(figure, 0, 0, n * cell, n * cell)
    colours = matplotlib.colormaps["Blues"].resampled(SHADES)
    shades = _shades(counts)
    # Cells as they are: matplotlib would take long to smooth a matrix of many classes, and hide single photos.
    shown = axes.imshow(shades, colours, vmin=0, vmax=1, interpolation="nearest")
    every = 1 if n <= 30 else 10
    edges = [i - 0.5 for i in (*range(0, n, every), n)]
    axes.hlines(edges, -0.5, n - 0.5, GRID, linewidth=1)
    axes.vlines(edges, -0.5, n - 0.5, GRID, linewidth=1)
    axes.set_title(title, pad=12)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    _draw_names(axes, counts, names, cell)
    if n <= 30:
        _draw_numbers(axes, counts, shades, cell, is_with_percent=n <= 12)
    scale = figure.colorbar(
        shown, axes_at(figure, 0, n * cell + 36, 160, 12), orientation="horizontal", ticks=[0, 0.5, 1]
    )
    scale.ax.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    scale.ax.tick_params(length=0)
    scale.outline.set_visible(False)
    scale.ax.annotate(
        "of the true class's photos",
        (1, 0.5),
        (12, 0),
        xycoords="axes fraction",
        textcoords="offset points",
        va="center",
        fontsize=11,
        color=MUTED,
    )


def _draw_names(axes: Axes, counts: Counts, names: Sequence[str], cell_px: float) -> None:
    """Names along both sides, all up to 100, else about fifty of them; the number of photos at the other end of the row."""
    font = 14 if len(names) <= 12 else 12 if len(names) <= 30 else 10
    shown = range(0, len(names), 1 if len(names) <= 100 else -(-len(names) // 50))
    labels = [shortened(names[i], MAX_COLUMNS) for i in shown]
    is_turned = any(terminal_width(label) * font * 0.65 > cell_px - 4 for label in labels)
    turned: dict[str, Any] = {}
    if is_turned:
        angle, middle = (45, "bottom") if len(names) <= 30 else (90, "center")
        turned = {"rotation": angle, "va": middle, "ha": "left", "rotation_mode": "anchor"}
    axes.set_xticks(shown, labels, fontsize=font, color=INK, **turned)
    axes.set_yticks(shown, labels, fontsize=font, color=INK)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    # At the left edge of the cells: a phone shows this part of a wide matrix first.
    axes.set_xlabel("predicted class", loc="left", fontsize=13, weight="bold", labelpad=8)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("true class", fontsize=13, weight="bold", labelpad=8)
    right = len(names) - 0.5 + 8 / cell_px
    axes.text(right, len(names) - 0.5 + 12 / cell_px, "photos", fontsize=11, color=MUTED, va="top")
    for i, row, column in zip(shown, axes.yaxis.get_major_ticks(), axes.xaxis.get_major_ticks(), strict=True):
        row.label1.set_gid(keep_whole(names[i]))
        column.label2.set_gid(keep_whole(names[i]))
        axes.text(right, i, str(counts[i].sum()), fontsize=font, color=MUTED, va="center")


def _draw_numbers(
    axes: Axes, counts: Counts, shades: NDArray[np.float64], cell_px: float, *, is_with_percent: bool
) -> None:
    for i, row in enumerate(counts.tolist()):
        for j, count in enumerate(row):
            if not count and (not is_with_percent or i != j):
                continue
            # Not the page's colours: a cell keeps its own in the dark.
            style: dict[str, Any] = {
                "ha": "center",
                "va": "center",
                "color": "#fefefe" if shades[i, j] > 0.55 else "#111111",
            }
            size = min(cell_px * 0.32, cell_px * 1.3 / len(str(count)))
            is_two = is_with_percent and sum(row) > 0
            axes.text(
                j, i - (0.12 if is_two else 0), str(count), size=size, weight="bold" if i == j else "normal", **style
            )
            if is_two:
                axes.text(j, i + 0.24, f"{100 * count / sum(row):.0f} %", size=cell_px * 0.2, **style)


def _shades(counts: Counts) -> NDArray[np.float64]:
    """Shares of the rows; any photo at all is one shade at least."""
    shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True).clip(1)
    shares[(counts > 0) & (shares < 1 / SHADES)] = 1 / SHADES
    return shares


def _description(counts: Counts, names: Sequence[str], most: int = 5) -> str:
    """What stands out: the largest confusions, in words."""
    wrong = sorted((-int(counts[i, j]), i, j) for i, j in zip(*counts.nonzero(), strict=True) if i != j)
    mistakes = [f"{-c} of {counts[i].sum()} {names[i]} called {names[j]}" for c, i, j in wrong[:most]]
    found = "Largest confusions: " + "; ".join(mistakes) if mistakes else "No photo was called by another class's name"
    return f"Rows are true classes, columns predicted classes, {len(names)} of each. {found}."
