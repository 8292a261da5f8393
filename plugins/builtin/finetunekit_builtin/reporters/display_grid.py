"""The grid of randomly chosen display photos, each with the predicted class and its probability."""

from __future__ import annotations

import hashlib
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from finetunekit import RunError
from finetunekit.reports.figures import (
    BLANK,
    CONTRAST,
    MAIN,
    MUTED,
    Drawing,
    axes_at,
    figure_files,
    keep_whole,
    one_line,
    shortened,
)
from finetunekit.reports.thumbnails import Thumbnail, make_thumbnail
from finetunekit.reports.words import counted

from .options import DisplayGridOptions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from finetunekit import FinishedRun

    Row = Mapping[str, str]

GAP_PX, CAPTION_PX, FRAME_PX = 14, 54, 3
MARKS, COLOURS = {True: "✓", False: "✕"}, {True: MAIN, False: CONTRAST}


@dataclass(frozen=True, slots=True)
class Tile:
    """One photo of the grid and what is written below it; `truth` is None where the true class is not known."""

    shown_path: str
    thumbnail: Thumbnail
    predicted: str
    probability: float
    truth: str | None


def build_display_grid(options: DisplayGridOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Show randomly chosen display photos with their predicted class and probability.

    A photo whose bytes are also those of a labelled test photo gets a tick or a cross and, where it was wrong, its true class.

    Args:
        options: Number of photos, size, seed and formats.
        run: A finished run; its predictions and the photos, where they still are, are read.

    Returns:
        `display_grid.png` and `display_grid.svg`, as asked for.

    Raises:
        RunError: If the run predicted no display photo.
    """
    rows = run.split_predictions("display")
    if not rows:
        raise RunError(
            "display_grid: predictions.csv has no photo of split 'display'. Add display photos, or drop this reporter."
        )
    seed = int(run.config.get("seed", 0)) if options.seed is None else options.seed
    truths = {row["sha256"]: row["true"] for row in run.split_predictions("test") if row["true"]}
    chosen = choose_rows(rows, options.photos, seed)
    tiles = [_tile(row, truths.get(row["sha256"]), options, run) for row in chosen]
    drawing = draw_display_grid(
        tiles,
        options.columns,
        options.tile_px,
        f"{len(tiles)} of {len(rows)} display photos, drawn with seed {seed}",
    )
    return figure_files(drawing, options.formats, run.stand_in, options.png_scale)


def choose_rows(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Draw rows without replacement: those with the smallest hash of seed, checksum and path, whatever the order of the rows."""

    def rank(row: Row) -> bytes:
        return hashlib.sha256(f"{seed}\n{row['sha256']}\n{row['path']}".encode(errors="surrogateescape")).digest()

    return sorted(rows, key=rank)[:count]


def _tile(row: Row, truth: str | None, options: DisplayGridOptions, run: FinishedRun) -> Tile:
    side = (options.tile_px - 2 * FRAME_PX) * (options.png_scale if "png" in options.formats else 2)
    thumbnail = make_thumbnail(run.photo_path(row["path"]), row["sha256"], side, miniatures=run.miniatures)
    predicted = row["predicted"]
    return Tile(row["path"], thumbnail, predicted, float(row[f"p_{predicted}"]), truth or row["true"] or None)


def draw_display_grid(tiles: Sequence[Tile], columns: int, tile_px: int, subtitle: str) -> Drawing:
    """Lay the tiles out row by row, under a title and a legend of the tick and the cross."""
    draw = partial(_draw, tiles=tiles, columns=columns, tile_px=tile_px, subtitle=subtitle)
    return Drawing("display-grid", "Display photos with predicted class", _description(tiles), draw)


def _draw(figure: Figure, tiles: Sequence[Tile], columns: int, tile_px: int, subtitle: str) -> None:
    for i, tile in enumerate(tiles):
        left, top = (i % columns) * (tile_px + GAP_PX), (i // columns) * (tile_px + CAPTION_PX)
        _draw_tile(axes_at(figure, left, top, tile_px, tile_px), tile, tile_px)
    first = figure.axes[0]
    _say(first, (0, tile_px + 50), "Predicted class and its probability", size=15, weight="bold")
    _say(first, (0, tile_px + 31), subtitle, color=MUTED)
    known = sum(tile.truth is not None for tile in tiles)
    if not known:
        _say(first, (0, tile_px + 12), "True classes are not known.", color=MUTED)
        return
    right = sum(tile.truth == tile.predicted for tile in tiles)
    for left, is_right, words in ((0, True, f"right: {right} of {known}"), (140, False, "wrong, with the true class")):
        _say(first, (left, tile_px + 12), MARKS[is_right], color=COLOURS[is_right], weight="bold")
        _say(first, (left + 17, tile_px + 12), words, color=MUTED)


def _draw_tile(axes: Axes, tile: Tile, side_px: int) -> None:
    axes.set(xticks=[], yticks=[], facecolor=BLANK)
    axes.grid(visible=False)
    axes.spines[:].set(visible=False, linewidth=FRAME_PX)
    _draw_photo(axes, tile, side_px)
    columns, predicted, indent = side_px // 8, one_line(tile.predicted), 0
    if tile.truth is not None:
        is_right, indent = tile.truth == tile.predicted, 17
        axes.spines[:].set(visible=True, color=COLOURS[is_right])
        _say(
            axes, (0, -17), MARKS[is_right], color=COLOURS[is_right], weight="bold"
        )  # colour is not all that tells them apart
        if not is_right:
            truth = one_line(tile.truth)
            _say(axes, (54, -33), f"true: {shortened(truth, columns - 12)}", gid=keep_whole(f"true: {truth}"))
    _say(
        axes,
        (indent, -17),
        shortened(predicted, columns - indent // 8),
        size=13,
        weight="bold",
        gid=keep_whole(predicted),
    )
    _say(axes, (0, -33), f"{100 * tile.probability:.1f} %")


def _draw_photo(axes: Axes, tile: Tile, side_px: int) -> None:
    """The photo in the middle of its square, or why there is none."""
    from PIL import Image

    picture = tile.thumbnail
    if picture.content is None:
        name = shortened(one_line(tile.shown_path.rsplit("/", 1)[-1]), side_px // 8)
        words = "\n".join([*textwrap.wrap(picture.problem, side_px // 8), name])
        axes.text(0.5, 0.5, words, ha="center", va="center", color=MUTED, transform=axes.transAxes)
        return
    longest = max(picture.width_px, picture.height_px)
    across, down = picture.width_px / longest / 2, picture.height_px / longest / 2
    with Image.open(io.BytesIO(picture.content)) as photo:
        axes.imshow(photo, extent=(-across, across, -down, down), aspect="auto")
    axes.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5))


def _say(axes: Axes, offset_px: tuple[float, float], words: str, **style: Any) -> None:
    """Write beside a tile, from its left lower corner."""
    axes.annotate(words, (0, 0), offset_px, xycoords="axes fraction", textcoords="offset points", **style)


def _description(tiles: Sequence[Tile]) -> str:
    said = [
        f"{one_line(tile.shown_path)}: {one_line(tile.predicted)} {100 * tile.probability:.1f} %"
        + (f", truly {one_line(tile.truth)}" if tile.truth not in (None, tile.predicted) and tile.truth else "")
        + (f" ({tile.thumbnail.problem})" if tile.thumbnail.problem else "")
        for tile in tiles
    ]
    return f"{counted(len(tiles), 'photo')}. {'; '.join(said)}."
