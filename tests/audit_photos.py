"""Small photos for the audit's tests: textured like real ones, each unlike the others, with defects planted among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from finetunekit import PhotoListing, PhotoRecord

SIZE_PX = (144, 108)
CLASSES = ("cat", "lynx")
COUNTS = {"train": 10, "valid": 6, "test": 6}


def draw_photo(seed: int, size_px: tuple[int, int] = SIZE_PX) -> Image.Image:
    """Noise at several scales, the coarse ones strongest, as natural photos have it; in colour."""
    generator = np.random.default_rng(seed)
    pixels = np.zeros((size_px[1], size_px[0], 3), np.float64)
    for cells, strength in ((3, 60), (6, 40), (12, 25), (24, 16), (48, 10)):
        noise = generator.normal(0, 1, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(noise[..., channel]).resize(size_px, Image.Resampling.BICUBIC)
            pixels[..., channel] += strength * np.asarray(layer)
    return Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.copy()


def save(image: Image.Image, path: Path, quality: int = 88) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", quality=quality)
    return path


def write_clean(root: Path) -> Path:
    """44 photos in `root/{train,valid,test}/{cat,lynx}/`, nothing wrong with any of them."""
    seed = 0
    for split, count in COUNTS.items():
        for label in CLASSES:
            for number in range(count):
                save(draw_photo(seed), root / split / label / f"{number}.jpg")
                seed += 1
    return root


def list_all(root: Path) -> PhotoListing:
    """Every file of `root/<split>/<class>/`."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return PhotoListing(tuple(PhotoRecord(path, path.parent.name, path.parent.parent.name) for path in paths), root)
