"""The grid of randomly chosen display photos, each with the predicted class and its probability."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Options, RunError
from finetunekit.reports.html import Thumbnail, make_thumbnail

from .output import Format, figure_files
from .scene import BLUE, VERMILION, Drawing, Item, Line, Photo, Rects, Text, one_line, shortened, wrapped

if TYPE_CHECKING:
    from finetunekit import FinishedRun

    Row = Mapping[str, str]

MARGIN_PX, GAP_PX, HEAD_PX, CAPTION_PX = 16, 14, 78, 54
FRAME_PX = 3


class DisplayGridOptions(Options):
    """Options of `display_grid`."""

    photos: int = Field(16, ge=1, le=400, description="Number of photos, at most as many as there are.")
    columns: int = Field(4, ge=1, le=20, description="Photos side by side.")
    tile_px: int = Field(
        150, ge=48, le=1024, description="Side of a photo in the figure; smaller photos are enlarged to it."
    )
    seed: int | None = Field(None, ge=0, lt=2**32, description="Seed of the choice of photos; null: the run's seed.")
    formats: tuple[Format, ...] = Field(("png",), min_length=1, description="Files to make; an SVG holds its photos.")
    png_scale: int = Field(1, ge=1, le=4, description="Pixels of the PNG per pixel of the figure.")


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
    rows = [row for row in run.predictions if row["split"] == "display"]
    if not rows:
        raise RunError(
            "display_grid: predictions.csv has no photo of split 'display'. Add display photos, or drop this reporter."
        )
    seed = int(run.config.get("seed", 0)) if options.seed is None else options.seed
    truths = {row["sha256"]: row["true"] for row in run.predictions if row["split"] == "test" and row["true"]}
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
        return hashlib.sha256(f"{seed}\n{row['sha256']}\n{row['path']}".encode()).digest()

    return sorted(rows, key=rank)[:count]


def _tile(row: Row, truth: str | None, options: DisplayGridOptions, run: FinishedRun) -> Tile:
    side = (options.tile_px - 2 * FRAME_PX) * (options.png_scale if "png" in options.formats else 2)
    thumbnail = make_thumbnail(run.photo_path(row["path"]), row["sha256"], side)
    predicted = row["predicted"]
    return Tile(row["path"], thumbnail, predicted, float(row[f"p_{predicted}"]), truth or row["true"] or None)


def draw_display_grid(tiles: Sequence[Tile], columns: int, tile_px: int, subtitle: str) -> Drawing:
    """Lay the tiles out row by row, under a title and a legend of the tick and the cross."""
    columns = min(columns, len(tiles))
    lines = -(-len(tiles) // columns)
    width = max(2 * MARGIN_PX + columns * tile_px + (columns - 1) * GAP_PX, 380)
    items: list[Item] = [
        Text(MARGIN_PX, 28, "Predicted class and its probability", 15, bold=True),
        Text(MARGIN_PX, 47, shortened(subtitle, 12, width - 2 * MARGIN_PX), 12, "muted"),
    ]
    items += _key(tiles)
    for i, tile in enumerate(tiles):
        left = MARGIN_PX + (i % columns) * (tile_px + GAP_PX)
        items += _draw_tile(tile, left, HEAD_PX + (i // columns) * (tile_px + CAPTION_PX), tile_px)
    bottom = HEAD_PX + lines * (tile_px + CAPTION_PX)
    return Drawing(
        "display-grid",
        "Display photos with predicted class",
        _description(tiles),
        width,
        bottom,
        tuple(items),
    )


def _key(tiles: Sequence[Tile]) -> Iterator[Item]:
    known = sum(tile.truth is not None for tile in tiles)
    if not known:
        yield Text(MARGIN_PX, 66, "True classes are not known.", 12, "muted")
        return
    right = sum(tile.truth == tile.predicted for tile in tiles)
    yield from _symbol(True, MARGIN_PX, 66)
    yield Text(MARGIN_PX + 18, 66, f"right: {right} of {known}", 12, "muted")
    yield from _symbol(False, MARGIN_PX + 140, 66)
    yield Text(MARGIN_PX + 158, 66, "wrong, with the true class", 12, "muted")


def _draw_tile(tile: Tile, left: float, top: float, side: float) -> Iterator[Item]:
    picture = tile.thumbnail
    yield Rects(((left, top, side, side),), "blank")
    if picture.content is None:
        yield from _placeholder(tile, left, top, side)
    else:
        scale = (side - 2 * FRAME_PX) / max(picture.width_px, picture.height_px)
        w, h = picture.width_px * scale, picture.height_px * scale
        box = (left + (side - w) / 2, top + (side - h) / 2, w, h)
        yield Photo(box, picture.content, "image/jpeg", f"{one_line(tile.shown_path)}: {one_line(tile.predicted)}")
    yield from _caption(tile, left, top, side)


def _placeholder(tile: Tile, left: float, top: float, side: float) -> Iterator[Item]:
    words = wrapped(tile.thumbnail.problem, 12, side - 16)
    name = shortened(one_line(tile.shown_path.rsplit("/", 1)[-1]), 11, side - 16)
    y = top + side / 2 - 8 * len(words)
    for i, line in enumerate((*words, name)):
        yield Text(left + side / 2, y + 16 * i + 10, line, 12 if i < len(words) else 11, "muted", "middle")


def _caption(tile: Tile, left: float, top: float, side: float) -> Iterator[Item]:
    below = top + side
    predicted = one_line(tile.predicted)
    start = left
    if tile.truth is not None:
        is_right = tile.truth == tile.predicted
        yield from _frame(left, top, side, BLUE if is_right else VERMILION)
        yield from _symbol(is_right, left, below + 16)
        start = left + 17
    share = f"{100 * tile.probability:.1f} %"
    yield _fitted(start, below + 16, predicted, 13, left + side - start, bold=True)
    yield Text(left, below + 32, share, 12)
    if tile.truth is not None and tile.truth != tile.predicted:
        yield _fitted(left + 54, below + 32, f"true: {one_line(tile.truth)}", 12, side - 54)


def _fitted(x: float, y: float, text: str, size_px: float, limit_px: float, bold: bool = False) -> Text:
    kept = shortened(text, size_px, limit_px, bold)
    return Text(x, y, kept, size_px, bold=bold, whole=text, limit_px=limit_px)


def _frame(left: float, top: float, side: float, colour: str) -> Iterator[Item]:
    f = FRAME_PX
    edges = (
        (left, top, side, f),
        (left, top + side - f, side, f),
        (left, top, f, side),
        (left + side - f, top, f, side),
    )
    yield Rects(edges, colour)


def _symbol(is_right: bool, left: float, baseline: float) -> Iterator[Item]:
    """A tick or a cross, 12 px wide, so that colour is not all that tells right from wrong."""
    x, y = left + 1, baseline
    if is_right:
        yield Line(((x, y - 5), (x + 4, y - 1), (x + 11, y - 10)), BLUE, 2.5)
    else:
        yield Line(((x, y - 10), (x + 10, y)), VERMILION, 2.5)
        yield Line(((x, y), (x + 10, y - 10)), VERMILION, 2.5)


def _description(tiles: Sequence[Tile]) -> str:
    said = [
        f"{one_line(tile.shown_path)}: {one_line(tile.predicted)} {100 * tile.probability:.1f} %"
        + (f", truly {one_line(tile.truth)}" if tile.truth not in (None, tile.predicted) and tile.truth else "")
        + (f" ({tile.thumbnail.problem})" if tile.thumbnail.problem else "")
        for tile in tiles
    ]
    return f"{len(tiles)} photos. {'; '.join(said)}."
