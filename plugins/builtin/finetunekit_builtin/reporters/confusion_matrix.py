"""The confusion matrix: how many photos of each true class were called what."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from finetunekit import Options, RunError

from .output import Format, figure_files
from .scene import Drawing, Item, Line, Rects, Text, one_line, shortened, width_px

if TYPE_CHECKING:
    from finetunekit import FinishedRun

    Counts = tuple[tuple[int, ...], ...]

SHADES = 20
MAX_LABEL_PX = 190
TITLE_PX = 66


class ConfusionMatrixOptions(Options):
    """Options of `confusion_matrix`."""

    split: Literal["test", "valid", "train"] = Field("test", description="Split whose predictions are counted.")
    formats: tuple[Format, ...] = Field(("svg",), min_length=1, description="Figures to make beside the CSV.")


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
    scored = run.metrics.get(split) or {}
    known = scored.get("confusion") if isinstance(scored, Mapping) else None
    if known is not None:
        return tuple(tuple(int(n) for n in row) for row in known)
    index = {name: i for i, name in enumerate(run.classes)}
    counts = [[0] * len(index) for _ in index]
    rows = [row for row in run.predictions if row["split"] == split and row["true"] in index]
    if not rows:
        raise RunError(
            f"confusion_matrix: predictions.csv has no labelled photo of split '{split}'. Choose another with `split`."
        )
    for row in rows:
        counts[index[row["true"]]][index[row["predicted"]]] += 1
    return tuple(map(tuple, counts))


def _table(counts: Counts, classes: Sequence[str]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["true \\ predicted", *classes, "photos"])
    for name, row in zip(classes, counts, strict=True):
        writer.writerow([name, *row, sum(row)])
    return stream.getvalue().encode()


def draw_confusion_matrix(counts: Counts, classes: Sequence[str], split: str, *, is_titled: bool = True) -> Drawing:
    """A square of cells, rows true and columns predicted, shaded by the share of the row.

    Args:
        counts: Photos, (true class, predicted class).
        classes: Class names in order.
        split: Named in the title.
        is_titled: Whether the title is written above it, which makes a matrix of few classes wider.

    Returns:
        The figure: counts and row percentages up to 12 classes, counts up to 30, shades alone beyond.
    """
    n = len(classes)
    cell, font = _cell_px(n), _label_font_px(n)
    names = [one_line(name) for name in classes]
    labels = [shortened(name, font, MAX_LABEL_PX) for name in names]
    totals = [str(sum(row)) for row in counts]
    totals_px = max(width_px(text, font) for text in totals) + 12
    left = 48 + max(width_px(label, font) for label in labels) + totals_px + 8
    is_turned = any(width_px(label, font) > cell - 4 for label in labels)
    longest = max(width_px(label, font) for label in labels)
    above = longest * 0.75 + font if is_turned else font + 8
    title_px = TITLE_PX if is_titled else 6
    top = title_px + 26 + above
    side = n * cell
    total, right = sum(sum(row) for row in counts), sum(counts[i][i] for i in range(n))
    title = f"Confusion matrix, {split} split: {right} of {total} photos right"
    lean = longest * 0.75 if is_turned else 0.0
    width = max(left + side + max(lean, 24), width_px(title, 15, bold=True) + 32 if is_titled else 0, 360)
    items: list[Item] = []
    if is_titled:
        items.append(Text(16, 28, title, 15, bold=True))
        items.append(Text(16, 48, "Shade: share of the true class's photos in the row, %.", 12, "muted"))
    items += _cells(counts, left, top, cell)
    items += _row_labels(labels, names, totals, (left, top), cell, font, totals_px)
    items += _column_labels(labels, names, (left, top), cell, font, is_turned)
    # At the left edge of the cells: a phone shows this part of a wide matrix first.
    items.append(Text(left, title_px + 16, "predicted class", 13, bold=True))
    items.append(Text(26, top + side / 2, "true class, number of photos", 13, anchor="middle", bold=True, turn_deg=90))
    items += _scale(left, top + side + 24)
    name = "confusion-matrix" if split == "test" else f"confusion-matrix-{split}"
    return Drawing(name, title, _description(counts, names), round(width), round(top + side + 66), tuple(items))


def _cell_px(n: int) -> float:
    return 64 if n <= 6 else 48 if n <= 12 else 30 if n <= 30 else 12 if n <= 100 else max(1200 / n, 1)


def _label_font_px(n: int) -> float:
    return 14 if n <= 12 else 12 if n <= 30 else 10


def _cells(counts: Counts, left: float, top: float, cell: float) -> Iterator[Item]:
    n = len(counts)
    yield Rects(((left, top, n * cell, n * cell),), _shade(0))
    by_shade: dict[int, list[tuple[float, float, float, float]]] = {}
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            if count:
                by_shade.setdefault(_level(count, row), []).append((left + j * cell, top + i * cell, cell, cell))
    for level in sorted(by_shade):
        yield Rects(tuple(by_shade[level]), _shade(level))
    yield from _grid(n, left, top, cell)
    if n <= 30:
        yield from _numbers(counts, left, top, cell, with_percent=n <= 12)


def _grid(n: int, left: float, top: float, cell: float) -> Iterator[Item]:
    """Lines between cells, and around the diagonal while cells are large enough to see it."""
    every = 1 if n <= 30 else 10
    for i in (*range(0, n, every), n):
        yield Line(((left, top + i * cell), (left + n * cell, top + i * cell)), "grid")
        yield Line(((left + i * cell, top), (left + i * cell, top + n * cell)), "grid")


def _numbers(counts: Counts, left: float, top: float, cell: float, with_percent: bool) -> Iterator[Item]:
    for i, row in enumerate(counts):
        total = sum(row)
        for j, count in enumerate(row):
            if not count and (not with_percent or i != j):
                continue
            x, y = left + (j + 0.5) * cell, top + (i + 0.5) * cell
            ink = "#ffffff" if _level(count, row) > SHADES // 2 else "#1b1b1b"
            size = min(cell * 0.32, cell * 1.3 / max(len(str(count)), 1))
            yield Text(x, y + (0 if with_percent else size * 0.36), str(count), size, ink, "middle", bold=i == j)
            if with_percent and total:
                yield Text(x, y + cell * 0.28, f"{100 * count / total:.0f} %", cell * 0.2, ink, "middle")


def _row_labels(
    labels: Sequence[str],
    names: Sequence[str],
    totals: Sequence[str],
    corner: tuple[float, float],
    cell: float,
    font: float,
    totals_px: float,
) -> Iterator[Item]:
    """Names and numbers of photos to the left; apart, so that a right-to-left name cannot swallow its number."""
    left, top = corner
    for i in _labelled(len(names)):
        baseline = top + (i + 0.5) * cell + font * 0.36
        yield Text(left - totals_px - 8, baseline, labels[i], font, anchor="end", whole=names[i])
        yield Text(left - 8, baseline, totals[i], font, "muted", "end")


def _column_labels(
    labels: Sequence[str],
    names: Sequence[str],
    corner: tuple[float, float],
    cell: float,
    font: float,
    is_turned: bool,
) -> Iterator[Item]:
    left, top = corner
    for i in _labelled(len(names)):
        middle = left + (i + 0.5) * cell
        if is_turned:
            yield Text(middle + font * 0.3, top - 6, labels[i], font, turn_deg=45, whole=names[i])
        else:
            yield Text(middle, top - 8, labels[i], font, anchor="middle", whole=names[i])


def _labelled(n: int) -> range:
    """Positions of the classes that are named: all up to 100, else about a hundred of them."""
    return range(0, n, max(1, -(-n // 100)))


def _scale(left: float, top: float) -> Iterator[Item]:
    for level in range(SHADES + 1):
        yield Rects(((left + level * 8, top, 8, 12),), _shade(level))
    for share in (0, 50, 100):
        yield Text(left + 4 + share * SHADES * 8 / 100, top + 27, f"{share} %", 11, "muted", "middle")


def _level(count: int, row: Sequence[int]) -> int:
    """Shade of a cell from 0 to `SHADES`: any photo at all is at least the first."""
    return max(1, round(SHADES * count / sum(row))) if count else 0


def _shade(level: int) -> str:
    """White to dark blue, lightness falling evenly, so that it reads in grey too."""
    share = level / SHADES
    return "#" + "".join(
        f"{round(light + (dark - light) * share):02x}" for light, dark in ((247, 8), (250, 64), (253, 129))
    )


def _description(counts: Counts, names: Sequence[str], most: int = 5) -> str:
    """What stands out: the largest confusions, in words."""
    wrong = sorted([(-c, i, j) for i, row in enumerate(counts) for j, c in enumerate(row) if c and i != j])
    mistakes = [f"{-c} of {sum(counts[i])} {names[i]} called {names[j]}" for c, i, j in wrong[:most]]
    found = "Largest confusions: " + "; ".join(mistakes) if mistakes else "No photo was called by another class's name"
    return f"Rows are true classes, columns predicted classes, {len(names)} of each. {found}."
