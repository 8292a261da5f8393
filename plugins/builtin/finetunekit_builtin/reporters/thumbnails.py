"""Photos of a run as small upright pictures, and what to say of those that are not there any more."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MAX_PHOTO_PIXELS = 100_000_000
#: What Pillow's decoders raise on a broken file.
BROKEN = (OSError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, EOFError, struct.error)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture ready to show, or the reason why there is none.

    Attributes:
        content: JPEG, or None.
        width_px: Width of the picture; 0 where there is none.
        height_px: Height of the picture; 0 where there is none.
        problem: Words to show instead.
    """

    content: bytes | None
    width_px: int = 0
    height_px: int = 0
    problem: str = ""


def make_thumbnail(path: Path, sha256: str, side_px: int, quality: int = 88) -> Thumbnail:
    """Open a photo, turn it upright, and fit it into a square without cropping.

    Args:
        path: Where the photo should be.
        sha256: Checksum that it had in the run: a prediction is shown only beside the pixels it was made from.
        side_px: Side of the square; smaller photos are enlarged to it.
        quality: JPEG quality from 1 to 95.

    Returns:
        The picture, or why there is none: the file is missing, has changed since, is too large, or cannot be decoded.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return Thumbnail(None, problem="photo is not here any more")
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        return Thumbnail(None, problem="file has changed since the run")
    try:
        return _fit(data, side_px, quality)
    except BROKEN:
        return Thumbnail(None, problem="photo cannot be decoded")


def _fit(data: bytes, side_px: int, quality: int) -> Thumbnail:
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", Image.DecompressionBombWarning
        )  # the limit below is the one that counts
        try:
            opened = Image.open(io.BytesIO(data))
        except Image.DecompressionBombError:
            return Thumbnail(None, problem="photo is too large to show")
    with opened:
        if opened.width * opened.height > MAX_PHOTO_PIXELS:
            return Thumbnail(None, problem="photo is too large to show")
        pixels = _to_rgb(ImageOps.exif_transpose(opened))
    scale = side_px / max(pixels.size)
    size = (max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale)))
    stream = io.BytesIO()
    pixels.resize(size, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=quality, optimize=True)
    return Thumbnail(stream.getvalue(), *size)


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB of any mode: transparent parts on white, grey levels of more than 8 bits stretched from black to white."""
    from PIL import Image

    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = image.convert("F")
        low, high = grey.getextrema()
        factor = 255.0 / max(float(high) - float(low), 1e-9)  # type: ignore[arg-type]
        return grey.point(lambda level: level * factor - float(low) * factor).convert("L").convert("RGB")  # type: ignore[arg-type]
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")
