"""A contact sheet as PNG, drawn with Pillow, letters of any script from the fonts of this machine."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from finetunekit.errors import ConfigError
from finetunekit.reports.contact_sheet import Sheet, SheetRow, Tile
from finetunekit.reports.text_drawing import load_font, measured_px, visual_runs

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

PAPER, INK, MUTED, BLANK, WARNING = (255, 255, 255), (27, 27, 27), (77, 77, 77), (238, 238, 238), (168, 68, 0)
MARGIN_PX, GAP_PX, HEAD_PX, CLASS_PX, CAPTION_PX = 16, 10, 66, 38, 36
TITLE_SIZE, CLASS_SIZE, TEXT_SIZE, CAPTION_SIZE = 18, 15, 12, 11
LINE_PX = 15
LEAST_WIDTH_PX = 480
#: Pillow writes more, but few programs show it.
MAX_HEIGHT_PX = 30_000


def sheet_png(sheet: Sheet, *, columns: int = 6) -> bytes:
    """Draw a sheet.

    Args:
        sheet: Tiles.
        columns: Photos side by side, at most.

    Returns:
        PNG, 8-bit RGB, the same bytes for the same photos, fonts and Pillow.

    Raises:
        ConfigError: If it would be higher than `MAX_HEIGHT_PX`.
    """
    from PIL import Image, ImageDraw

    across = min(columns, max(len(row.tiles) for row in sheet.rows))
    width = max(LEAST_WIDTH_PX, 2 * MARGIN_PX + across * (sheet.tile_px + GAP_PX) - GAP_PX)
    height = _head_px(sheet) + sum(_row_px(row, across, sheet.tile_px) for row in sheet.rows) + MARGIN_PX
    if height > MAX_HEIGHT_PX:
        raise ConfigError(
            f"a PNG of {height} px is too high (at most {MAX_HEIGHT_PX}). Write .html, or take fewer with --per-class or --class."
        )
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    top = _draw_head(draw, sheet, width)
    for row in sheet.rows:
        _draw_row(canvas, draw, row, top, across, sheet.tile_px, width)
        top += _row_px(row, across, sheet.tile_px)
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _head_px(sheet: Sheet) -> int:
    lines = wrapped(sheet.stand_in, TEXT_SIZE, LEAST_WIDTH_PX - 2 * MARGIN_PX) if sheet.stand_in else ()
    return HEAD_PX + LINE_PX * len(lines)


def _row_px(row: SheetRow, across: int, tile_px: int) -> int:
    lines = -(-len(row.tiles) // across)
    return CLASS_PX + lines * (tile_px + CAPTION_PX)


def _draw_head(draw: ImageDraw.ImageDraw, sheet: Sheet, width: int) -> int:
    room = width - 2 * MARGIN_PX
    draw_text(draw, (MARGIN_PX, 30), sheet.title, TITLE_SIZE, INK, room, is_bold=True)
    draw_text(draw, (MARGIN_PX, 50), sheet.subtitle, TEXT_SIZE, MUTED, room)
    for i, line in enumerate(wrapped(sheet.stand_in or "", TEXT_SIZE, LEAST_WIDTH_PX - 2 * MARGIN_PX)):
        draw_text(draw, (MARGIN_PX, 70 + LINE_PX * i), line, TEXT_SIZE, WARNING, room)
    return _head_px(sheet)


def _draw_row(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, row: SheetRow, top: int, across: int, tile_px: int, width: int
) -> None:
    room = width - 2 * MARGIN_PX
    count = f"{len(row.tiles)} of {row.photos}"
    used = draw_text(draw, (MARGIN_PX, top + 22), row.label or "-", CLASS_SIZE, INK, room - 100, is_bold=True)
    draw_text(draw, (MARGIN_PX + int(used) + 10, top + 22), count, TEXT_SIZE, MUTED, 90)
    for i, tile in enumerate(row.tiles):
        left = MARGIN_PX + (i % across) * (tile_px + GAP_PX)
        _draw_tile(canvas, draw, tile, left, top + CLASS_PX - 8 + (i // across) * (tile_px + CAPTION_PX), tile_px)


def _draw_tile(canvas: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int, side: int) -> None:
    draw.rectangle((left, top, left + side - 1, top + side - 1), BLANK)
    if tile.picture is not None:
        across, down = (side - tile.picture.width) // 2, (side - tile.picture.height) // 2
        canvas.paste(tile.picture, (left + across, top + down))
        says = f"{tile.width_px} × {tile.height_px} px"
    else:
        lines = wrapped(tile.problem, CAPTION_SIZE, side - 12)[: max(1, (side - 8) // LINE_PX)]
        for i, line in enumerate(lines):
            draw_text(draw, (left + 6, top + 6 + LINE_PX * (i + 1)), line, CAPTION_SIZE, WARNING, side - 12)
        says = "no photo"
    draw_text(draw, (left, top + side + 13), tile.shown.rpartition("/")[2], CAPTION_SIZE, INK, side)
    draw_text(draw, (left, top + side + 26), says, CAPTION_SIZE, MUTED, side)


def draw_text(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    size_px: int,
    fill: tuple[int, int, int],
    room_px: int,
    *,
    is_bold: bool = False,
) -> float:
    """Write a line, its middle left out where there is no room, and return its width.

    Args:
        draw: Where to.
        at: Left end of the baseline.
        text: Any script; letters that no font has are spelled out.
        size_px: Of the font.
        fill: Colour.
        room_px: Width that there is.
        is_bold: Whether in bold.
    """
    runs = visual_runs(_fitted(text, size_px, room_px, is_bold), is_bold)
    x = float(at[0])
    for run in runs:
        font = load_font(run.font, size_px, is_bold)
        draw.text((x, at[1]), run.letters, fill, font, anchor="ls")
        x += font.getlength(run.letters)
    return x - at[0]


def wrapped(text: str, size_px: int, room_px: int) -> tuple[str, ...]:
    """Lines broken between words; a word that is too wide by itself is cut when it is drawn."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and measured_px(visual_runs(longer), size_px) <= room_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return tuple(lines)


def _fitted(text: str, size_px: int, room_px: int, is_bold: bool) -> str:
    """The text, or its start and its end around `…`: what tells file names apart is often at the end."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())

    def is_fitting(candidate: str) -> bool:
        return measured_px(visual_runs(candidate, is_bold), size_px, is_bold) <= room_px

    if is_fitting(clean):
        return clean
    low, high = 0, len(clean) - 1  # letters kept, by bisection
    while low < high:
        kept = (low + high + 1) // 2
        if is_fitting(_cut(clean, kept)):
            low = kept
        else:
            high = kept - 1
    return _cut(clean, low)


def _cut(text: str, kept: int) -> str:
    head = (kept + 1) // 2
    tail = kept - head
    return text[:head].rstrip() + "…" + (text[-tail:].lstrip() if tail else "")
