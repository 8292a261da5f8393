"""Photos that every export is tried on: what cameras, scanners and the web make of one picture, and sizes at the edge of reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112  # EXIF tag
SIZE = (61, 47)
#: Name → width and height, in pixels.
SIZES = {
    "one pixel": (1, 1),
    "one row": (333, 1),
    "one column": (1, 333),
    "very long": (2400, 16),
    "very high": (16, 2400),
    "smaller": (7, 5),
    "larger": (1280, 853),
}


def write_probes(folder: Path) -> dict[str, Path]:
    """Write the photos.

    Args:
        folder: Is there already.

    Returns:
        What is special about a photo → its file. The same pixels each time.
    """
    made = {**_encodings(folder), **_sizes(folder), **_patterns(folder)}
    return {name: path for name, path in made.items() if path.is_file()}


def _picture(width: int, height: int) -> Image.Image:
    """Smooth colours with noise over them."""
    from PIL import Image

    random = np.random.default_rng(width * 10_000 + height)
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    smooth = np.stack([200 * across, 200 * down, 200 * (1 - across * down)], axis=-1)
    return Image.fromarray((smooth + random.integers(0, 56, smooth.shape)).astype(np.uint8))


def _encodings(folder: Path) -> dict[str, Path]:
    from PIL import Image

    picture = _picture(*SIZE)
    found = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        found[f"EXIF orientation {orientation}"] = path = folder / f"orientation{orientation}.jpg"
        picture.save(path, exif=exif, quality=95)
    grey = np.asarray(picture.convert("L"))
    clear = picture.convert("RGBA")
    clear.putalpha(Image.fromarray(grey))
    others = {
        "grey": (picture.convert("L"), "png"),
        "grey JPEG": (picture.convert("L"), "jpg"),
        "16-bit grey": (Image.fromarray(grey.astype(np.uint16) * 257), "png"),
        "CMYK": (picture.convert("CMYK"), "jpg"),
        "alpha": (clear, "png"),
        "palette": (picture.convert("P"), "png"),
        "black and white": (picture.convert("1"), "png"),
        "WebP": (picture, "webp"),
    }
    for number, (name, (image, suffix)) in enumerate(others.items()):
        found[name] = folder / f"encoding{number}.{suffix}"
        image.save(found[name])
    return found


def _sizes(folder: Path) -> dict[str, Path]:
    found = {}
    for name, size in SIZES.items():
        found[name] = folder / f"{name.replace(' ', '_')}.png"
        _picture(*size).save(found[name])
    return found


def _patterns(folder: Path) -> dict[str, Path]:
    from PIL import Image

    down, across = np.indices((96, 128))
    patterns = {
        "black": np.zeros_like(down),
        "white": np.ones_like(down),
        "stripes": across % 2,
        "lines": down % 2,
        "checkerboard": (across + down) % 2,
    }
    found = {}
    for name, values in patterns.items():
        found[name] = folder / f"{name}.png"
        Image.fromarray((values * 255).astype(np.uint8)).convert("RGB").save(found[name])
    return found
