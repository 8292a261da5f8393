"""What tells the four apart: mane, stripes, tufts, ruffs and spots, and a cat's own patterns."""

from __future__ import annotations

import dataclasses
from random import Random

import numpy as np

from .coats import BLACK, WHITE, Coat, pick_fur
from .parts import SIDES, Build, ear_tip, jitter, pairs, varied
from .shapes import Colour, Points, Scene, blades, ellipse, mix, shade


def mane_colour(rng: Random, coat: Coat) -> Colour:
    """Darker than the face, of another hue, or blonder."""
    other = pick_fur(rng, "lion")
    choice = rng.random()
    if choice < 0.5:
        return shade(mix(coat.base, other, 0.3), rng.uniform(0.42, 0.72))
    if choice < 0.75:
        return shade(mix(coat.base, other, 0.8), rng.uniform(0.75, 0.9))
    return mix(coat.base, WHITE, rng.uniform(0.2, 0.4))


def add_mane(scene: Scene, rng: Random, colour: Colour, reach: float) -> None:
    """Rings of locks around the head, longest on the chest."""
    for share, count, tone in ((1.0, 34, 0.78), (0.8, 32, 0.9), (0.58, 28, 1.02)):
        radius = 0.6 + (reach - 0.6) * share
        scene.add(ellipse(0, 0.12, 0.82 * radius, 0.92 * radius), shade(colour, tone * 0.95), depth=-0.15)
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + jitter(rng, count, -0.12, 0.12)
        _add_locks(scene, rng, angle, radius, shade(colour, tone))


def _add_locks(scene: Scene, rng: Random, angle: Points, radius: float, colour: Colour) -> None:
    count = len(angle)
    out = pairs(np.cos(angle), np.sin(angle))
    # gravity: locks below the chin hang, those above lean outwards
    length = radius * jitter(rng, count, 0.95, 1.12) * (1 + 0.22 * np.clip(out[:, 1], 0, 1))
    start = 0.62 * radius * out + [0, 0.1]
    end = length[:, None] * out + pairs(jitter(rng, count, -0.1, 0.1), 0.1 + 0.1 * np.abs(out[:, 0]))
    lean = jitter(rng, count, -0.2, 0.2)
    bend = (start + end) / 2 + pairs(-out[:, 1] * lean, out[:, 0] * lean)
    outlines = blades(start, bend, end, radius * jitter(rng, count, 0.12, 0.18), lock=True)
    scene.add_all(outlines, varied(rng, colour, count, 0.11), depth=-0.15)


def add_fringe(scene: Scene, rng: Random, colour: Colour) -> None:
    """Locks that fall over the forehead and along the cheeks, and leave the ears free."""
    angle = np.concatenate([np.linspace(-2.1, -1.04, 8), np.linspace(-0.3, 0.95, 7), np.linspace(2.19, 3.44, 7)])
    count = len(angle)
    out = pairs(np.cos(angle), 1.04 * np.sin(angle))
    start = out * jitter(rng, count, 0.72, 0.86)[:, None]
    end = out * jitter(rng, count, 1.2, 1.4)[:, None] + pairs(np.zeros(count), jitter(rng, count, -0.05, 0.15))
    bend = (start + end) / 2 + pairs(jitter(rng, count, -0.08, 0.08), jitter(rng, count, -0.08, 0.08))
    scene.add_all(
        blades(end, bend, start, np.full(count, 0.16), lock=True), varied(rng, colour, count, 0.14), depth=0.1
    )


def add_nose_bridge(scene: Scene, build: Build, colour: Colour) -> None:
    """The long broad nose of the big cats."""
    n, top, y = build.nose, build.eye_y - 0.12, build.muzzle_y - 0.2 * build.muzzle
    scene.add(np.array([[-0.62 * n, top], [0.62 * n, top], [1.02 * n, y], [-1.02 * n, y]]), shade(colour, 1.08))
    for side in SIDES:
        start = np.array([[side * 0.66 * n, top]])
        bend = np.array([[side * 0.6 * n, (top + y) / 2]])
        end = np.array([[side * 1.1 * n, y]])
        scene.add(blades(start, bend, end, np.array([0.035]))[0], shade(colour, 0.72))


def add_tufts(scene: Scene, rng: Random, build: Build) -> None:
    """Black pencils on the tips of a lynx's ears."""
    for side in SIDES:
        x, y = ear_tip(build, side)
        length = rng.uniform(0.5, 0.68)
        start = np.array([[x - 0.02 * side, y + 0.26]] * 3)
        spread = np.array([-0.05, 0.04, 0.13]) * side
        end = np.stack([x + spread + 0.06 * side, y - length * np.array([0.85, 1.0, 0.75])], axis=1)
        bend = (start + end) / 2 + [0.05 * side, 0]
        scene.add_all(blades(start, bend, end, np.full(3, 0.075)), [BLACK] * 3, depth=-0.1)


def add_ruffs(scene: Scene, rng: Random, coat: Coat) -> None:
    """Beards of long fur that hang from a lynx's cheeks, pale with dark bars."""
    count = 9
    rank = np.linspace(0, 1, count)
    for side in SIDES:
        start = pairs(side * (0.62 - 0.25 * rank), 0.05 + 0.45 * rank)
        out = pairs(side * (1.3 - 0.62 * rank), 0.38 + 0.95 * rank - 0.3 * (rank - 0.5) ** 2)
        end = out + pairs(jitter(rng, count, -0.06, 0.06), jitter(rng, count, -0.06, 0.06))
        bend = (start + end) / 2 + pairs(np.full(count, 0.12 * side), np.full(count, -0.05))
        colours = varied(rng, mix(coat.base, coat.light, 0.7), count, 0.08)
        scene.add_all(blades(start, bend, end, np.full(count, 0.2), lock=True), colours, depth=-0.02)


def add_lynx_face(scene: Scene, rng: Random, coat: Coat) -> None:
    """Pale rims around the eyes, dark bars on the ruffs, streaks on the forehead."""
    for side in SIDES:
        scene.add(ellipse(0.41 * side, -0.08, 0.3, 0.25), mix(coat.base, coat.light, 0.85))
        scene.add(ellipse(0.62 * side, 0.4, 0.3, 0.3), mix(coat.base, coat.light, 0.6))
        start = np.array([[0.66 * side, 0.1], [0.72 * side, 0.34], [0.6 * side, 0.62]])
        end = np.array([[1.02 * side, 0.42], [0.92 * side, 0.78], [0.66 * side, 1.06]])
        bend = (start + end) / 2 + [0.1 * side, -0.02]
        scene.add_all(blades(start, bend, end, np.array([0.05, 0.07, 0.07])), [coat.dark] * 3, depth=0.1)
    count = 7
    x = np.linspace(-0.36, 0.36, count)
    start = pairs(x * 0.8, jitter(rng, count, -0.42, -0.34))
    end = pairs(x, jitter(rng, count, -0.72, -0.6))
    tint = mix(coat.base, coat.dark, rng.uniform(0.5, 0.9))
    scene.add_all(blades(start, (start + end) / 2, end, np.full(count, 0.03)), [tint] * count)


def add_spots(scene: Scene, rng: Random, coat: Coat, side: float) -> None:
    """Spots on a lynx's chest sides and back."""
    tint = mix(coat.base, coat.dark, rng.uniform(0.45, 0.85))
    for _ in range(22):
        x, y = rng.uniform(-1.2, 1.2) + side * rng.choice([0.0, 1.2]), rng.uniform(1.0, 2.8)
        if abs(x) > 0.45 * (y < 2):
            spot = ellipse(x, y, rng.uniform(0.06, 0.12), rng.uniform(0.05, 0.09), tilt=rng.uniform(-1, 1), points=8)
            scene.add(spot, tint, depth=-0.3)


def add_tiger_face(scene: Scene, rng: Random, build: Build, coat: Coat) -> None:
    """Pale brows and cheeks under bold stripes."""
    pale = mix(coat.base, coat.light, 0.9)
    for side in SIDES:
        scene.add(ellipse(0.42 * side, -0.36, 0.25, 0.17, tilt=0.35 * side), pale)
        scene.add(ellipse(0.74 * side, 0.36, 0.32, 0.36, tilt=-0.3 * side), pale, depth=0.15)
    starts, bends, ends, widths = [], [], [], []
    for side in SIDES:
        for x0, y0, x1, y1, width in _TIGER_STRIPES:
            dx, dy = rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05)
            starts.append((side * (x0 + dx), y0 + dy))
            ends.append((side * (x1 + dx), y1 + dy))
            bends.append((side * ((x0 + x1) / 2 + dx), (y0 + y1) / 2 + dy + rng.uniform(-0.14, -0.02)))
            widths.append(width * rng.uniform(0.75, 1.25))
    outlines = blades(np.array(starts), np.array(bends), np.array(ends), np.array(widths))
    scene.add_all(outlines, [coat.dark] * len(outlines))


# one half of the face: outer end, inner end, half width
_TIGER_STRIPES = (
    (0.52, -0.86, 0.03, -0.74, 0.055),
    (0.46, -0.68, 0.02, -0.56, 0.055),
    (0.34, -0.52, 0.0, -0.40, 0.045),
    (0.84, -0.62, 0.58, -0.36, 0.06),
    (0.98, -0.34, 0.66, -0.14, 0.07),
    (1.04, -0.04, 0.68, 0.06, 0.07),
    (1.06, 0.22, 0.66, 0.24, 0.065),
    (1.02, 0.48, 0.62, 0.42, 0.065),
    (0.86, 0.76, 0.54, 0.60, 0.06),
    (0.60, 0.94, 0.42, 0.78, 0.05),
)


def add_chest_stripes(scene: Scene, rng: Random, coat: Coat, side: float, width: float) -> None:
    """Stripes that reach from a tiger's shoulders towards its chest."""
    count = 8
    y = np.linspace(1.0, 3.2, count) + jitter(rng, count, -0.08, 0.08)
    for flank in SIDES:
        start = pairs(0.12 * side + flank * jitter(rng, count, 0.98, 1.08) * width, y - 0.1)
        end = pairs(flank * jitter(rng, count, 0.3, 0.55), y + jitter(rng, count, 0.05, 0.3))
        bend = (start + end) / 2 + pairs(np.zeros(count), jitter(rng, count, -0.2, 0.1))
        scene.add_all(blades(start, bend, end, jitter(rng, count, 0.06, 0.1)), [coat.dark] * count, depth=-0.3)


def add_back_stripes(scene: Scene, rng: Random, coat: Coat, side: float) -> None:
    """Stripes that run down from a tiger's spine."""
    # they begin on the back that `parts.add_back` draws, an ellipse
    along = np.linspace(-0.2, 1.2, 8)
    start = pairs(
        side * 1.5 + np.copysign(2.2, side) * np.sin(along), 2.1 + 0.15 * np.sin(along) - 1.68 * np.cos(along)
    )
    end = start + pairs(jitter(rng, 8, -0.1, 0.2) * side, jitter(rng, 8, 0.8, 1.3))
    bend = (start + end) / 2 + pairs(jitter(rng, 8, -0.15, 0.15), np.zeros(8))
    scene.add_all(blades(start, bend, end, jitter(rng, 8, 0.07, 0.11)), [coat.dark] * 8, depth=-0.5)


def pale(coat: Coat) -> Coat:
    """A colour-point cat's coat: pale body, dark ears and mask."""
    return dataclasses.replace(coat, base=mix(coat.base, WHITE, 0.65), dark=shade(coat.base, 0.45))


def add_cat_pattern(scene: Scene, rng: Random, pattern: str, coat: Coat) -> Colour:
    """Plain, tabby, bib, patches or points; returns the colour of the muzzle."""
    if pattern == "tabby":
        _add_tabby(scene, rng, coat)
        return mix(coat.base, coat.light, 0.7)
    if pattern == "bib":
        scene.add(ellipse(0, 0.52, 0.5, 0.42), WHITE)
        scene.add(np.array([[-0.28, 0.4], [-0.06, -0.5], [0.06, -0.5], [0.28, 0.4]]), WHITE)
        return WHITE
    if pattern == "patches":
        _add_patches(scene, rng)
        return mix(coat.light, WHITE, 0.5)
    if pattern == "points":
        scene.add(ellipse(0, 0.25, 0.5, 0.55), mix(coat.base, coat.dark, 0.75))
        return mix(coat.base, coat.dark, 0.65)
    return mix(coat.base, coat.light, rng.uniform(0.1, 0.5))


def _add_tabby(scene: Scene, rng: Random, coat: Coat) -> None:
    tint = mix(coat.base, coat.dark, rng.uniform(0.25, 0.5))
    x = np.array([-0.3, -0.12, 0.12, 0.3])
    start = pairs(x * 0.9, np.array([-0.34, -0.44, -0.44, -0.34]))
    end = pairs(x * 1.3, np.full(4, -0.74))
    scene.add_all(blades(start, (start + end) / 2, end, np.full(4, 0.035)), [tint] * 4)
    for side in SIDES:
        start = np.array([[0.62 * side, 0.02], [0.62 * side, 0.2]])
        end = np.array([[0.98 * side, 0.1], [0.94 * side, 0.34]])
        scene.add_all(blades(start, (start + end) / 2 + [0, 0.05], end, np.full(2, 0.03)), [tint] * 2, depth=0.1)


def _add_patches(scene: Scene, rng: Random) -> None:
    for _ in range(3):
        tint = pick_fur(rng, "cat")
        x, y = rng.uniform(-0.6, 0.6), rng.uniform(-0.5, 0.2)
        scene.add(
            ellipse(x, y, rng.uniform(0.2, 0.36), rng.uniform(0.16, 0.3), tilt=rng.uniform(-1, 1), points=9),
            tint,
        )
