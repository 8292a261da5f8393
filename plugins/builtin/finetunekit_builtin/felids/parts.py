"""What every felid has: shoulders, ears, head, muzzle, eyes, whiskers. Head units, y down."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from .coats import BLACK, WHITE, Coat
from .shapes import Colour, Points, Scene, blades, ellipse, mix, shade

SIDES = (-1.0, 1.0)


@dataclass(frozen=True)
class Build:
    """Proportions of a head; lengths in head units (half the head's width is 1).

    Attributes:
        height: Half the head's height.
        jaw: How much the head narrows towards the chin, in [0, 1).
        cheek: How much the cheeks stand out.
        ear_x: Distance of an ear's middle from the axis.
        ear_y: Height of an ear's root, negative is up.
        ear_width: Half the width of an ear.
        ear_height: Height of an ear.
        eye_x, eye_y, eye_size: Place and half width of an eye.
        muzzle: Half width of the muzzle.
        muzzle_y: Where the muzzle's middle is.
        nose: Half width of the nose.
        slit: Width of the pupil as a share of its height.
    """

    height: float
    jaw: float
    cheek: float
    ear_x: float
    ear_y: float
    ear_width: float
    ear_height: float
    eye_x: float
    eye_y: float
    eye_size: float
    muzzle: float
    muzzle_y: float
    nose: float
    slit: float


def jitter(rng: Random, count: int, low: float, high: float) -> Points:
    """`(count,)` uniform numbers."""
    return np.array([rng.uniform(low, high) for _ in range(count)])


def pairs(x: Points, y: Points) -> Points:
    """Two `(n,)` arrays as `(n, 2)` points."""
    return np.stack([x, y], axis=1)


def varied(rng: Random, colour: Colour, count: int, spread: float) -> list[Colour]:
    """`count` shades of a colour."""
    return [shade(colour, rng.uniform(1 - spread, 1 + spread)) for _ in range(count)]


def head_outline(rng: Random, build: Build, *, fur: float) -> Points:
    """Outline of a head, `(48, 2)`; `fur` is how ragged its lower half is."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = np.cos(angle), np.sin(angle)
    x = np.sign(x) * np.abs(x) ** 0.85
    x = x * (1 - build.jaw * np.clip(y, 0, 1) ** 2 - 0.12 * np.clip(-y, 0, 1) ** 2)
    x = x * (1 + build.cheek * np.exp(-(((y - 0.35) / 0.28) ** 2)))
    ragged = fur * np.where(np.arange(48) % 2 == 0, 1.0, -0.6) * np.clip(y + 0.3, 0, 1)
    reach = 1 + ragged * jitter(rng, 48, 0.4, 1.2)
    return pairs(x * reach, y * reach * build.height)


def add_back(scene: Scene, coat: Coat, side: float) -> None:
    """A back that leads away to one side; `side` in [-1, 1]."""
    scene.add(ellipse(1.5 * side, 2.1, 2.3, 1.75, tilt=0.18 * side, points=28), shade(coat.base, 0.82), depth=-0.5)


def add_chest(scene: Scene, rng: Random, coat: Coat, side: float, width: float) -> None:
    """Shoulders, and a lighter chest with a few locks."""
    x = np.array([-0.55, -0.8, -1.0, -1.12, -1.2, 1.2, 1.12, 1.0, 0.8, 0.55]) * width
    y = np.array([0.2, 0.7, 1.2, 2.0, 5.0, 5.0, 2.0, 1.2, 0.7, 0.2])
    scene.add(pairs(x + 0.12 * side, y), shade(coat.base, 0.92), depth=-0.3)
    scene.add(ellipse(0.06 * side, 2.0, 0.52 * width, 1.25), mix(coat.base, coat.light, 0.75), depth=-0.2)
    count = 9
    top = pairs(jitter(rng, count, -0.5, 0.5) * width, jitter(rng, count, 0.8, 1.9))
    bend, end = (
        top + np.array([0.03, 0.2]),
        top + pairs(jitter(rng, count, -0.1, 0.1), jitter(rng, count, 0.3, 0.5)),
    )
    tint = mix(coat.base, coat.light, 0.55)
    scene.add_all(blades(top, bend, end, jitter(rng, count, 0.05, 0.1)), varied(rng, tint, count, 0.08), depth=-0.2)


def add_round_ears(scene: Scene, build: Build, coat: Coat, rim: Colour) -> None:
    """Rounded ears, as on lions and tigers."""
    for side in SIDES:
        x, y = side * build.ear_x, build.ear_y - build.ear_height * 0.35
        tilt = 0.5 * side
        scene.add(ellipse(x, y, build.ear_width, build.ear_height, tilt=tilt), rim, depth=-0.1)
        inner = ellipse(x - 0.02 * side, y + 0.07, build.ear_width * 0.68, build.ear_height * 0.7, tilt=tilt)
        scene.add(inner, coat.inner, depth=-0.08)
        root = ellipse(x - 0.12 * side, y + 0.2, build.ear_width * 0.6, build.ear_height * 0.55, tilt=tilt)
        scene.add(root, mix(coat.light, coat.base, 0.4), depth=-0.06)


def _curve(start: tuple[float, float], bend: tuple[float, float], end: tuple[float, float]) -> Points:
    t = np.linspace(0, 1, 6)[:, None]
    curve: Points = (1 - t) ** 2 * np.array(start) + 2 * t * (1 - t) * np.array(bend) + t**2 * np.array(end)
    return curve


def ear_tip(build: Build, side: float) -> tuple[float, float]:
    """The point of a pointed ear."""
    return side * (build.ear_x + 0.16), build.ear_y - build.ear_height


def add_pointed_ears(scene: Scene, build: Build, coat: Coat, rim: Colour) -> None:
    """Pointed ears, as on cats and lynxes."""
    for side in SIDES:
        tip_x, tip_y = ear_tip(build, side)
        x, y, w = side * build.ear_x, build.ear_y, build.ear_width * side
        middle_y = (y + tip_y) / 2
        inner_side = _curve((x - w, y + 0.05), (x - 0.7 * w, middle_y - 0.16), (tip_x - 0.02 * side, tip_y))
        outer_side = _curve((tip_x + 0.02 * side, tip_y), (x + 1.1 * w, middle_y - 0.05), (x + w, y + 0.5))
        outline = np.concatenate([inner_side, outer_side])
        scene.add(outline, rim, depth=-0.1)
        middle = np.array([x + 0.04 * side, y + 0.1])
        inner = (outline - middle) * 0.68 + middle
        scene.add(inner, coat.inner, depth=-0.05)
        root = np.array([[x - 0.9 * w, y + 0.1], [x - 0.3 * w, y - 0.35 * build.ear_height], [x + 0.1 * w, y + 0.3]])
        scene.add(root, mix(coat.light, coat.base, 0.35), depth=-0.02)


def add_head(scene: Scene, rng: Random, build: Build, coat: Coat, *, fur: float) -> None:
    """The head's mass, its shadow on the chest, and a lighter middle."""
    outline = head_outline(rng, build, fur=fur)
    scene.add(
        ellipse(0, 0.2 * build.height, 0.86, 0.95 * build.height, points=28),
        shade(coat.base, 0.66),
        depth=0.0,
    )
    scene.add(outline, coat.base, depth=0.0)
    scene.add(ellipse(0, -0.35 * build.height, 0.5, 0.42 * build.height), shade(coat.base, 1.05))


def add_muzzle(scene: Scene, build: Build, coat: Coat, light: Colour) -> None:
    """Chin, both halves of the muzzle, nose and mouth."""
    w, y = build.muzzle, build.muzzle_y
    scene.add(ellipse(0, y + 0.85 * w, 0.62 * w, 0.5 * w), shade(light, 0.93))
    scene.add(ellipse(0, y + 0.42 * w, 0.62 * w, 0.3 * w), shade(light, 0.62))
    for side in SIDES:
        scene.add(ellipse(side * 0.5 * w, y + 0.12 * w, 0.62 * w, 0.55 * w, tilt=0.2 * side), light)
    nose_y = y - 0.28 * w
    n = build.nose
    half = np.array([[-0.22, 0.62], [-1.0, -0.4], [-0.5, -0.66]]) * n
    scene.add(np.concatenate([half, half[::-1] * [-1, 1]]) + np.array([0.0, nose_y]), coat.nose)
    line = mix(coat.nose, BLACK, 0.75)
    x, ends = np.zeros(3), np.array([0.0, -0.5 * w, 0.5 * w])
    start = pairs(x, np.full(3, nose_y + 0.4 * n))
    lip = y + 0.5 * w
    bend = pairs(x, np.array([y + 0.2 * w, lip + 0.1 * w, lip + 0.1 * w]))
    end = pairs(ends, np.array([lip - 0.05 * w, lip, lip]))
    scene.add_all(blades(start, bend, end, np.full(3, 0.026)), [line] * 3)


def add_eyes(scene: Scene, rng: Random, build: Build, coat: Coat) -> None:
    """Almond eyes with lids, iris, pupil and a glint."""
    s, y = build.eye_size, build.eye_y
    open_ = rng.uniform(0.62, 0.85)
    glance = rng.uniform(-0.12, 0.12) * s
    for side in SIDES:
        x = side * build.eye_x
        tilt = -0.24 * side
        scene.add(ellipse(x, y, 1.22 * s, (open_ + 0.2) * s, tilt=tilt, points=14), BLACK)
        start, bend, end = (np.array([point]) * [side, 1] for point in _tear(build))
        scene.add(blades(start, bend, end, np.array([0.22 * s]))[0], BLACK)
        scene.add(ellipse(x, y, 0.95 * s, open_ * s, tilt=tilt, points=14), coat.iris)
        scene.add(ellipse(x + glance, y, 0.62 * build.slit * s, 0.62 * s, points=12), BLACK)
        scene.add(ellipse(x + glance + 0.22 * s, y - 0.28 * s, 0.17 * s, 0.17 * s, points=8), WHITE)


def _tear(build: Build) -> tuple[tuple[float, float], ...]:
    x, y, s = build.eye_x, build.eye_y, build.eye_size
    return (x - 0.5 * s, y), (x - 1.1 * s, y + 0.4 * s), (x - 1.25 * s, y + 1.1 * s)


def add_whiskers(scene: Scene, rng: Random, build: Build, colour: Colour, *, length: float, each_side: int) -> None:
    """Whiskers that fan out from the muzzle."""
    w, y = build.muzzle, build.muzzle_y
    count = 2 * each_side
    side = np.repeat(SIDES, each_side)
    rank = np.tile(np.linspace(-1, 1, each_side), 2)
    start = pairs(side * 0.75 * w, y + 0.15 * w + 0.12 * rank * w)
    reach = length * jitter(rng, count, 0.8, 1.15)
    end = start + pairs(side * reach, reach * (0.3 * rank + rng.uniform(-0.1, 0.25)))
    bend = (start + end) / 2 + pairs(np.zeros(count), np.full(count, -0.1))
    scene.add_all(blades(start, bend, end, np.full(count, 0.016)), [colour] * count)
