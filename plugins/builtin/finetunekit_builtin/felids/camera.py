"""Light and camera: shading, fur, white balance, exposure, softness and noise."""

from __future__ import annotations

from functools import lru_cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .shapes import Pose

Pixels = NDArray[np.float32]

_TILE_PX = 256


@lru_cache(maxsize=1)
def _fur_tile() -> NDArray[np.float32]:
    """Short vertical strands, `(256, 256)`, mean 0, deviation 1; constant, so computed once."""
    noise = np.random.Generator(np.random.PCG64(7)).standard_normal((_TILE_PX, _TILE_PX))
    strands = np.stack([np.roll(noise, shift, axis=0) for shift in range(5)]).sum(axis=0)
    patches = np.kron(noise[:32, :32], np.ones((8, 8)))
    mixed = strands / strands.std() + 0.6 * patches
    return np.asarray(mixed / mixed.std(), dtype=np.float32)


def _fur(rng: Random, side_px: int) -> Pixels:
    # the strands keep their size relative to the photo
    crop_px = 110
    x, y = rng.randrange(_TILE_PX - crop_px), rng.randrange(_TILE_PX - crop_px)
    tile = Image.fromarray(_fur_tile()[y : y + crop_px, x : x + crop_px])
    return np.asarray(tile.resize((side_px, side_px), Image.Resampling.BILINEAR), dtype=np.float32)


def light_animal(rng: Random, animal: Pixels, pose: Pose) -> Pixels:
    """Shade a drawn animal as a ball lit from one side, and give it fur.

    Args:
        animal: `(height, width, 3)` in [0, 255].
        pose: Where its head is.

    Returns:
        `(height, width, 3)`, not clipped.
    """
    side_px = len(animal)
    at = (np.arange(side_px, dtype=np.float32) + 0.5) / side_px
    u = ((at - pose.x) / (1.5 * pose.radius)).clip(-1.2, 1.2)[None, :]
    v = ((at - pose.y) / (1.5 * pose.radius)).clip(-1.2, 1.2)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    strength = rng.uniform(0.05, 0.35)
    sideways, down = strength * np.cos(angle), strength * np.sin(angle) * 0.8 - 0.1
    ball = 1.06 - 0.1 * (u * u + v * v)
    light = ball + np.float32(sideways) * u + np.float32(down) * v
    light += np.float32(rng.uniform(0.02, 0.06)) * _fur(rng, side_px)
    return np.asarray(animal * light[..., None].clip(0.35, 1.6), dtype=np.float32)


def develop(rng: Random, photo: Pixels, noise_seed: int) -> NDArray[np.uint8]:
    """White balance, saturation, contrast, exposure, softness, noise.

    Args:
        photo: `(height, width, 3)` in [0, 255].
        noise_seed: Seed of the sensor's noise.

    Returns:
        `(height, width, 3)` uint8.
    """
    gains = np.array([np.exp(rng.gauss(0, s)) for s in (0.07, 0.025, 0.08)], dtype=np.float32)
    photo = photo * (gains * np.float32(np.exp(rng.gauss(0.04, 0.17))))
    grey = photo.mean(axis=2, keepdims=True)
    photo = grey + np.float32(rng.uniform(0.75, 1.3)) * (photo - grey)
    middle = np.float32(photo.mean())
    photo = middle + np.float32(rng.uniform(0.75, 1.2)) * (photo - middle)
    photo = _soften(photo, rng.choice([1.0, 1.0, 0.8, 0.6]))
    noise = np.random.Generator(np.random.PCG64(noise_seed)).standard_normal(photo.shape, dtype=np.float32)
    photo += np.float32(rng.uniform(1.0, 7.0)) * noise
    return photo.clip(0, 255).astype(np.uint8)


def _soften(photo: Pixels, share: float) -> Pixels:
    if share >= 1.0:
        return photo
    side_px = len(photo)
    coarse = max(2, round(side_px * share))
    image = Image.fromarray(photo.clip(0, 255).astype(np.uint8))
    small = image.resize((coarse, coarse), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((side_px, side_px), Image.Resampling.BICUBIC), dtype=np.float32)
