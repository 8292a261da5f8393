"""Backgrounds and what stands in front. The same for every class: the place must not name the animal."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from .parts import jitter, pairs
from .shapes import Colour, Points, blades, ellipse, mix, shade

Polygons = list[tuple[list[float], Colour]]

_GROUNDS: tuple[tuple[float, float, float], ...] = (
    (0.27, 0.45, 0.45),  # grass
    (0.33, 0.40, 0.28),  # forest
    (0.12, 0.40, 0.72),  # savanna
    (0.09, 0.35, 0.45),  # earth, wood
    (0.58, 0.08, 0.90),  # snow
    (0.58, 0.30, 0.70),  # sky
    (0.08, 0.10, 0.50),  # rock
    (0.06, 0.30, 0.80),  # a warm room
)


def _colour(rng: Random) -> Colour:
    hue, saturation, value = rng.choice(_GROUNDS)
    value *= rng.uniform(0.5, 1.2)
    r, g, b = colorsys.hsv_to_rgb((hue + rng.gauss(0, 0.03)) % 1, saturation * rng.uniform(0.3, 1.3), min(value, 1))
    return 255 * r, 255 * g, 255 * b


def _tones(rng: Random, first: Colour, second: Colour, count: int) -> list[Colour]:
    return [shade(mix(first, second, rng.random()), rng.uniform(0.7, 1.25)) for _ in range(count)]


def _flat(outlines: Points, side_px: int) -> list[list[float]]:
    rows: list[list[float]] = (outlines * side_px).reshape(len(outlines), -1).tolist()
    return rows


def _grass(rng: Random, side_px: int, near: Colour, far: Colour) -> Polygons:
    count = 44
    foot = pairs(jitter(rng, count, -0.1, 1.1), jitter(rng, count, 0.4, 1.2))
    tip = foot + pairs(jitter(rng, count, -0.14, 0.14), jitter(rng, count, -0.6, -0.25))
    bend = pairs(foot[:, 0], (foot[:, 1] + tip[:, 1]) / 2)
    return list(
        zip(
            _flat(blades(foot, bend, tip, jitter(rng, count, 0.008, 0.025), lock=True), side_px),
            _tones(rng, near, far, count),
            strict=True,
        )
    )


def _blobs(rng: Random, side_px: int, near: Colour, far: Colour) -> Polygons:
    big = rng.uniform(0.06, 0.2)
    count = 30
    outlines = np.stack(
        [
            ellipse(rng.random(), rng.random(), big * rng.uniform(0.4, 1), big * rng.uniform(0.4, 1), points=10)
            for _ in range(count)
        ]
    )
    return list(zip(_flat(outlines, side_px), _tones(rng, near, far, count), strict=True))


def _room(rng: Random, side_px: int, near: Colour, far: Colour) -> Polygons:
    floor = rng.uniform(0.55, 0.95)
    boxes = [(0.0, floor, 1.0, 1.0)]
    for _ in range(rng.randint(1, 5)):
        x, y = rng.uniform(-0.1, 0.9), rng.uniform(-0.1, 0.6)
        boxes.append((x, y, x + rng.uniform(0.08, 0.45), y + rng.uniform(0.08, 0.5)))
    outlines = np.array([[(a, b), (c, b), (c, d), (a, d)] for a, b, c, d in boxes])
    return list(zip(_flat(outlines, side_px), _tones(rng, near, far, len(boxes)), strict=True))


def _trunks(rng: Random, side_px: int, near: Colour, far: Colour) -> Polygons:
    count = 9
    foot = pairs(jitter(rng, count, -0.1, 1.1), np.full(count, 1.3))
    top = pairs(foot[:, 0] + jitter(rng, count, -0.2, 0.2), np.full(count, -0.5))
    outlines = blades(foot, (foot + top) / 2, top, jitter(rng, count, 0.02, 0.09))
    return list(zip(_flat(outlines, side_px), _tones(rng, near, far, count), strict=True))


def _plain(rng: Random, side_px: int, near: Colour, far: Colour) -> Polygons:
    return []


_SCENERIES: tuple[Callable[[Random, int, Colour, Colour], Polygons], ...] = (
    _grass,
    _blobs,
    _room,
    _trunks,
    _plain,
)


def draw_background(rng: Random, side_px: int) -> Image.Image:
    """A gradient and some scenery, out of focus: RGB, `side_px` square."""
    top, bottom, near, far = (_colour(rng) for _ in range(4))
    slope = rng.uniform(-1, 1)
    corners = [mix(top, bottom, min(max(t, 0), 1)) for t in (0.15 + slope / 4, 0.15 - slope / 4, 0.9, 0.9 - slope / 3)]
    pixels = np.array(corners).reshape(2, 2, 3).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BICUBIC)
    paint(image, rng.choice(_SCENERIES)(rng, side_px, near, far))
    coarse = max(4, round(rng.choice([14, 24, 40, 70]) * side_px / max(side_px, 75)))
    small = image.resize((coarse, coarse), Image.Resampling.BOX, reducing_gap=1.0)
    return small.resize((side_px, side_px), Image.Resampling.BICUBIC)


def paint(image: Image.Image, polygons: Polygons) -> None:
    """Fill polygons, in order, on an RGB or RGBA image."""
    draw = ImageDraw.Draw(image)
    for outline, (red, green, blue) in polygons:
        draw.polygon(outline, fill=(min(255, int(red)), min(255, int(green)), min(255, int(blue))))


def foreground(rng: Random, side_px: int) -> Polygons:
    """Leaves, grass, bars or snow between camera and animal; often nothing."""
    kind = rng.random()
    if kind < 0.5:
        return []
    tint = _colour(rng)
    if kind < 0.62:
        return _front_blades(rng, side_px, tint, count=9, foot=(1.0, 1.25), rise=(-0.7, -0.25), width=(0.008, 0.018))
    if kind < 0.74:
        return _front_blades(rng, side_px, tint, count=4, foot=(-0.15, 0.0), rise=(0.15, 0.4), width=(0.03, 0.06))
    if kind < 0.84:
        return _bars(rng, side_px, tint)
    flakes = [ellipse(rng.random(), rng.random(), r, r, points=7) for r in jitter(rng, 22, 0.006, 0.016)]
    return [(row, (240.0, 244.0, 250.0)) for row in _flat(np.stack(flakes), side_px)]


def _front_blades(
    rng: Random,
    side_px: int,
    tint: Colour,
    *,
    count: int,
    foot: tuple[float, float],
    rise: tuple[float, float],
    width: tuple[float, float],
) -> Polygons:
    start = pairs(jitter(rng, count, 0, 1), jitter(rng, count, *foot))
    end = start + pairs(jitter(rng, count, -0.25, 0.25), jitter(rng, count, *rise))
    bend = pairs(start[:, 0], (start[:, 1] + end[:, 1]) / 2)
    outlines = blades(start, bend, end, jitter(rng, count, *width))
    return list(zip(_flat(outlines, side_px), _tones(rng, tint, tint, count), strict=True))


def _bars(rng: Random, side_px: int, tint: Colour) -> Polygons:
    gap, width, lean = rng.uniform(0.22, 0.34), rng.uniform(0.008, 0.016), rng.uniform(-0.08, 0.08)
    rows: Polygons = []
    x = rng.uniform(-0.1, 0.2)
    while x < 1.1:
        corners = np.array([[(x, -0.1), (x + width, -0.1), (x + width + lean, 1.1), (x + lean, 1.1)]])
        rows.append((_flat(corners, side_px)[0], tint))
        x += gap
    return rows
