"""Figures as PNG, drawn with Pillow."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING

from finetunekit.reports.text_drawing import load_font, measured_px, visual_runs

from .scene import ROLES, Drawing, Line, Marks, Photo, Rects, Text

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

SMOOTHING = 3  # shapes are drawn this much larger and reduced: Pillow's own edges are not smoothed
RGB = tuple[int, int, int]


def to_png(drawing: Drawing, scale: int = 1) -> bytes:
    """Draw as PNG: shapes first, then photos, then texts.

    Args:
        drawing: The figure.
        scale: Pixels of the file per pixel of the figure.

    Returns:
        PNG of `(scale · height_px, scale · width_px)`, 8-bit RGB, the same bytes for the same figure, fonts and Pillow.
    """
    canvas = _shapes(drawing, scale)
    for item in drawing.items:
        if isinstance(item, Photo):
            _paste_photo(canvas, item, scale)
    for item in drawing.items:
        if isinstance(item, Text):
            _draw_text(canvas, item, scale)
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _shapes(drawing: Drawing, scale: int) -> Image.Image:
    from PIL import Image, ImageDraw

    k = scale * SMOOTHING
    canvas = Image.new("RGB", (drawing.width_px * k, drawing.height_px * k), _rgb("paper"))
    draw = ImageDraw.Draw(canvas)
    for item in drawing.items:
        if isinstance(item, Rects):
            for x, y, w, h in item.boxes:
                draw.rectangle(
                    (round(x * k), round(y * k), round((x + w) * k) - 1, round((y + h) * k) - 1),
                    _rgb(item.fill),
                )
        elif isinstance(item, Line):
            _draw_line(draw, item, k)
        elif isinstance(item, Marks):
            r = item.radius_px * k
            symbol = draw.ellipse if item.shape == "disc" else draw.rectangle
            for x, y in item.points:
                symbol((x * k - r, y * k - r, x * k + r, y * k + r), _rgb(item.fill))
    return canvas.resize((drawing.width_px * scale, drawing.height_px * scale), Image.Resampling.BOX)


def _draw_line(draw: ImageDraw.ImageDraw, line: Line, k: int) -> None:
    points = [(x * k, y * k) for x, y in line.points]
    width = max(1, round(line.width_px * k))
    pieces = [points] if line.dash is None else _dashes(points, line.dash[0] * k, line.dash[1] * k)
    for piece in pieces:
        draw.line(piece, _rgb(line.stroke), width, joint="curve")


def _dashes(points: list[tuple[float, float]], on_px: float, off_px: float) -> list[list[tuple[float, float]]]:
    """Cut an open line into dashes, the pattern running on around corners."""
    pieces: list[list[tuple[float, float]]] = []
    is_on, left = True, on_px
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        done = 0.0
        while length - done > 1e-9:
            step = min(left, length - done)
            ends = [(x0 + (x1 - x0) * d / length, y0 + (y1 - y0) * d / length) for d in (done, done + step)]
            if is_on:
                pieces.append(ends)
            done, left = done + step, left - step
            if left <= 1e-9:
                is_on = not is_on
                left = on_px if is_on else off_px
    return pieces


def _paste_photo(canvas: Image.Image, photo: Photo, scale: int) -> None:
    from PIL import Image

    x, y, w, h = (round(v * scale) for v in photo.box)
    with Image.open(io.BytesIO(photo.content)) as opened:
        pixels = opened.convert("RGB")
    canvas.paste(pixels if pixels.size == (w, h) else pixels.resize((w, h), Image.Resampling.LANCZOS), (x, y))


def _draw_text(canvas: Image.Image, text: Text, scale: int) -> None:
    """Draw on a mask centred on the anchor, turn the mask, and paint through it."""
    from PIL import Image, ImageDraw

    size = text.size_px * scale
    runs = visual_runs(text.content, text.bold)
    width = measured_px(runs, size, text.bold)
    if text.limit_px is not None and width > text.limit_px * scale:
        size *= text.limit_px * scale / width
        width = measured_px(runs, size, text.bold)
    reach = int(width + 2 * size) + 1
    height = reach if text.turn_deg else int(2 * size) + 1
    mask = Image.new("L", (2 * reach, 2 * height), 0)
    draw = ImageDraw.Draw(mask)
    x = reach - {"start": 0.0, "middle": width / 2, "end": width}[text.anchor]
    for run in runs:
        font = load_font(run.font, size, text.bold)
        draw.text((x, height), run.letters, 255, font, anchor="ls")
        x += font.getlength(run.letters)
    if text.turn_deg:
        mask = mask.rotate(text.turn_deg, Image.Resampling.BICUBIC, center=(reach, height))
    box = mask.getbbox()
    if box is None:
        return
    left, top = round(text.x * scale) - reach, round(text.y * scale) - height
    canvas.paste(_rgb(text.fill), (left + box[0], top + box[1], left + box[2], top + box[3]), mask.crop(box))


def _rgb(colour: str) -> RGB:
    digits = ROLES.get(colour, colour).lstrip("#")
    return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)
