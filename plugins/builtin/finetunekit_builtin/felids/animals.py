"""The four animals. Mane, stripes, tufts and plainness carry the class; everything else overlaps."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from . import markings, parts
from .coats import BLACK, WHITE, build_coat
from .shapes import Scene, mix, shade


def draw_cat(rng: Random, side: float) -> Scene:
    """A domestic cat: big pointed ears without tufts, big eyes, small muzzle, plain or faintly marked."""
    coat = build_coat(rng, "cat")
    build = parts.Build(
        height=rng.uniform(0.78, 0.88), jaw=0.28, cheek=rng.uniform(0.0, 0.1), ear_x=0.6, ear_y=-0.42,
        ear_width=rng.uniform(0.36, 0.44), ear_height=rng.uniform(0.66, 0.86), eye_x=0.41, eye_y=-0.06,
        eye_size=rng.uniform(0.22, 0.26), muzzle=0.3, muzzle_y=0.38, nose=0.11, slit=rng.uniform(0.3, 0.9),
    )  # fmt: skip
    scene = Scene()
    pattern = rng.choice(["plain", "plain", "tabby", "tabby", "bib", "patches", "points"])
    if pattern == "points":
        coat = markings.pale(coat)
    parts.add_back(scene, coat, side)
    parts.add_chest(scene, rng, coat, side, rng.uniform(0.75, 0.95))
    rim = coat.dark if pattern == "points" else shade(coat.base, 0.92)
    parts.add_pointed_ears(scene, build, coat, rim)
    parts.add_head(scene, rng, build, coat, fur=rng.uniform(0.0, 0.06))
    light = markings.add_cat_pattern(scene, rng, pattern, coat)
    parts.add_muzzle(scene, build, coat, light)
    parts.add_eyes(scene, rng, build, coat)
    parts.add_whiskers(scene, rng, build, mix(WHITE, coat.base, 0.1), length=rng.uniform(0.9, 1.2), each_side=4)
    return scene


def draw_lion(rng: Random, side: float) -> Scene:
    """A lion: a mane of any hue, round ears in it, a long broad nose, small eyes."""
    coat = build_coat(rng, "lion")
    build = parts.Build(
        height=rng.uniform(0.98, 1.1), jaw=0.3, cheek=0.0, ear_x=0.84, ear_y=-0.68, ear_width=0.25, ear_height=0.26,
        eye_x=0.38, eye_y=-0.14, eye_size=rng.uniform(0.14, 0.17), muzzle=0.42, muzzle_y=0.5, nose=0.22, slit=0.8,
    )  # fmt: skip
    scene = Scene()
    mane = markings.mane_colour(rng, coat)
    parts.add_back(scene, coat, side)
    parts.add_chest(scene, rng, coat, side, rng.uniform(1.0, 1.25))
    reach = rng.uniform(1.45, 1.9)
    markings.add_mane(scene, rng, mane, reach)
    parts.add_round_ears(scene, build, coat, mix(coat.base, coat.dark, 0.3))
    parts.add_head(scene, rng, build, coat, fur=0.03)
    markings.add_fringe(scene, rng, mane)
    markings.add_nose_bridge(scene, build, shade(coat.base, 0.9))
    parts.add_muzzle(scene, build, coat, coat.light)
    parts.add_eyes(scene, rng, build, coat)
    parts.add_whiskers(scene, rng, build, WHITE, length=rng.uniform(0.5, 0.7), each_side=3)
    return scene


def draw_lynx(rng: Random, side: float) -> Scene:
    """A lynx: long black tufts on pointed ears, ruffs on the cheeks, spots."""
    coat = build_coat(rng, "lynx")
    build = parts.Build(
        height=rng.uniform(0.84, 0.92), jaw=0.25, cheek=0.08, ear_x=0.56, ear_y=-0.5, ear_width=0.32,
        ear_height=rng.uniform(0.62, 0.78), eye_x=0.39, eye_y=-0.1, eye_size=rng.uniform(0.16, 0.2), muzzle=0.33,
        muzzle_y=0.4, nose=0.16, slit=rng.uniform(0.4, 0.9),
    )  # fmt: skip
    scene = Scene()
    parts.add_back(scene, coat, side)
    parts.add_chest(scene, rng, coat, side, rng.uniform(0.95, 1.2))
    markings.add_spots(scene, rng, coat, side)
    parts.add_pointed_ears(scene, build, coat, mix(coat.base, coat.dark, 0.6))
    markings.add_tufts(scene, rng, build)
    markings.add_ruffs(scene, rng, coat)
    parts.add_head(scene, rng, build, coat, fur=0.05)
    markings.add_lynx_face(scene, rng, coat)
    parts.add_muzzle(scene, build, coat, coat.light)
    parts.add_eyes(scene, rng, build, coat)
    parts.add_whiskers(scene, rng, build, WHITE, length=rng.uniform(0.5, 0.75), each_side=3)
    return scene


def draw_tiger(rng: Random, side: float) -> Scene:
    """A tiger: bold dark stripes on face and body, round ears, pale brows and cheeks."""
    coat = build_coat(rng, "tiger")
    build = parts.Build(
        height=rng.uniform(0.9, 1.0), jaw=0.22, cheek=rng.uniform(0.06, 0.14), ear_x=0.7, ear_y=-0.66, ear_width=0.3,
        ear_height=0.29, eye_x=0.38, eye_y=-0.14, eye_size=rng.uniform(0.15, 0.18), muzzle=0.4, muzzle_y=0.46,
        nose=0.2, slit=0.8,
    )  # fmt: skip
    scene = Scene()
    width = rng.uniform(1.05, 1.3)
    parts.add_back(scene, coat, side)
    markings.add_back_stripes(scene, rng, coat, side)
    parts.add_chest(scene, rng, coat, side, width)
    markings.add_chest_stripes(scene, rng, coat, side, width)
    parts.add_round_ears(scene, build, coat, mix(coat.base, BLACK, rng.uniform(0.3, 0.9)))
    parts.add_head(scene, rng, build, coat, fur=0.06)
    markings.add_tiger_face(scene, rng, build, coat)
    markings.add_nose_bridge(scene, build, coat.base)
    parts.add_muzzle(scene, build, coat, coat.light)
    parts.add_eyes(scene, rng, build, coat)
    parts.add_whiskers(scene, rng, build, WHITE, length=rng.uniform(0.5, 0.75), each_side=3)
    return scene


ANIMALS: dict[str, Callable[[Random, float], Scene]] = {
    "cat": draw_cat,
    "lion": draw_lion,
    "lynx": draw_lynx,
    "tiger": draw_tiger,
}

# half a head's width at most, as a fraction of the image's side: a lion's mane needs room
LARGEST: dict[str, float] = {"cat": 0.36, "lion": 0.29, "lynx": 0.36, "tiger": 0.36}
