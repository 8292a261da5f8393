"""One drawn photo: a pure function of its address."""

from __future__ import annotations

import math
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finetunekit import DataError, did_you_mean

from .animals import ANIMALS, LARGEST
from .camera import develop, light_animal
from .shapes import Pose
from .surroundings import draw_background, foreground, paint

CLASSES = ("cat", "lion", "lynx", "tiger")
SPLITS = ("train", "valid", "test")
MIN_SIZE_PX = 8


def draw_photo(label: str, *, seed: int, index: int, split: str, size_px: int = 75) -> NDArray[np.uint8]:
    """Draw one felid.

    The same arguments give the same pixels in any process; the composition does not depend on the size.

    Args:
        label: One of `CLASSES`.
        seed: Any integer.
        index: Which photo of its class and split, at least 0.
        split: `train`, `valid` or `test`.
        size_px: Height and width, at least 8.

    Returns:
        RGB pixels, `(height, width, 3)`, uint8.

    Raises:
        DataError: If an argument is none of these.
    """
    check_name("class", label, CLASSES)
    check_name("split", split, SPLITS)
    check_at_least("size_px", size_px, MIN_SIZE_PX)
    check_at_least("index", index, 0)
    rng = Random(f"{seed}/{split}/{label}/{index}")
    background = np.asarray(draw_background(rng, size_px), dtype=np.float32)
    pose = _pose(rng, LARGEST[label])
    animal = _draw_animal(rng, label, pose, size_px)
    alpha = animal[..., 3:] * np.float32(1 / 255)
    lit = light_animal(rng, animal[..., :3], pose)
    return develop(rng, background + alpha * (lit - background), rng.getrandbits(32))


def _pose(rng: Random, largest: float) -> Pose:
    radius = rng.uniform(0.18, largest)
    slack = 0.5 - radius
    return Pose(
        x=0.5 + rng.uniform(-0.75, 0.75) * slack,
        y=0.5 + rng.uniform(-0.5, 0.55) * slack,
        radius=radius,
        roll=math.radians(rng.gauss(0, 13)),
        yaw=math.radians(rng.uniform(-32, 32)),
        pitch=math.radians(rng.uniform(-12, 10)),
    )


def _draw_animal(rng: Random, label: str, pose: Pose, size_px: int) -> NDArray[np.float32]:
    # drawn three times as large and averaged, so that whiskers survive
    canvas_px = size_px * (3 if size_px <= 128 else 2)
    canvas = Image.new("RGBA", (canvas_px, canvas_px))
    scene = ANIMALS[label](rng, rng.uniform(-1, 1))
    paint(canvas, scene.polygons(pose, canvas_px))
    paint(canvas, foreground(rng, canvas_px))
    return np.asarray(canvas.reduce(canvas_px // size_px), dtype=np.float32)


def check_name(what: str, name: str, allowed: tuple[str, ...]) -> None:
    """Refuse a name that is not allowed.

    Raises:
        DataError: With the closest allowed name.
    """
    if name not in allowed:
        raise DataError(f"drawn photos: no {what} {name!r}.{did_you_mean(name, allowed)}")


def check_at_least(what: str, value: int, least: int) -> None:
    """Refuse a number that is too small.

    Raises:
        DataError: With the number and the least one allowed.
    """
    if value < least:
        raise DataError(f"drawn photos: {what} must be at least {least}, got {value}.")
