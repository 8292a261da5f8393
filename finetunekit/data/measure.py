"""What one decode of a photo tells: its header, light, colours and sharpness, and a small grey picture to compare with others."""

from __future__ import annotations

import os
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.decode import BROKEN_EXIF, Pixels, decode_image
from finetunekit.data.photo_file import PhotoFile, open_photo_file, pillow_guard, read_header, undecodable

if TYPE_CHECKING:
    from PIL import Image

#: Side of the grey picture that photos are compared by.
SIDE_PX = 128
#: Light and sharpness are measured on a photo reduced by 2, 4 or 8, its shorter side no smaller than this.
REDUCED_PX = 128
#: EXIF tag that says how the camera was held. Source: Exif 2.32, section 4.6.4, tag 274.
ORIENTATION = 274
#: `colour` at and below which a photo has none: JPEG's rounding stays below it.
COLOURLESS = 10

TRAITS = np.dtype(
    [
        ("size_bytes", "<u8"),
        ("width_px", "<u4"),
        ("height_px", "<u4"),
        ("orientation", "u1"),
        ("format", "S8"),
        ("mode", "S8"),
        ("quantisation", "<f4"),
        ("is_progressive", "?"),
        ("has_exif", "?"),
        ("has_profile", "?"),
        ("is_whole", "?"),
        ("mean", "<f8", 3),
        ("mean_square", "<f8", 3),
        ("brightness", "<f4"),
        ("contrast", "<f4"),
        ("darkest", "<f4"),
        ("brightest", "<f4"),
        ("colour", "<f4"),
        ("sharpness", "<f4"),
    ]
)
"""What is known of one photo; little-endian wherever it was measured.

- `width_px`, `height_px`: the right way up. `orientation`: EXIF's, from 1 to 8; 1 where there is none.
- `format`, `mode`: Pillow's names, before any conversion.
- `quantisation`: mean of a JPEG's luminance quantisation table, larger for stronger compression; 0 for other formats.
- `is_whole`: False where the mark that ends a JPEG or a PNG is missing, although it could be decoded.
- `mean`, `mean_square`: of red, green and blue, and of their squares.
- `brightness`, `contrast`: mean and standard deviation of grey levels. `darkest`, `brightest`: their 1st and 99th percentile.
- `colour`: 99th percentile of a pixel's distance between its largest and smallest channel. `sharpness`: see `_sharpness`.

Levels are in [0, 255].
"""

Traits: TypeAlias = Any  # one record of dtype TRAITS


def measure_header(path: Path, *, max_pixels: int) -> Traits:
    """What a photo's header says; what its pixels would say is 0.

    Raises:
        DataError: If it cannot be read, is too large, or is not a photo.
    """
    with pillow_guard(max_pixels), open_photo_file(path) as file:
        return _describe(read_header(file, path, max_pixels=max_pixels), os.fstat(file.fileno()).st_size)


def measure_stream(file: PhotoFile, path: Path, *, max_pixels: int) -> tuple[Traits, NDArray[np.uint8], Pixels]:
    """Decode a photo and measure it. Call it inside `pillow_guard`.

    Args:
        file: Open, at its beginning.
        path: For messages.
        max_pixels: A header that claims more is refused before anything is decoded.

    Returns:
        Its traits; the photo stretched to a square, `(SIDE_PX, SIDE_PX)` uint8; and its pixels, see `decode_photo`.

    Raises:
        DataError: If it cannot be decoded, is too large, or is not a photo.
    """
    image = read_header(file, path, max_pixels=max_pixels)
    kind = image.format or ""
    traits = _describe(image, os.fstat(file.fileno()).st_size)
    most = file.left_bytes
    pixels = decode_image(image, file, path)
    traits["is_whole"] = _has_end(file, kind, most)
    traits["height_px"], traits["width_px"], _ = pixels.shape
    try:
        grey = _measure_pixels(traits, pixels)
    except Exception as exc:
        raise undecodable(path, exc) from exc
    return traits, grey, pixels


def _describe(image: Image.Image, size_bytes: int) -> Traits:
    traits = np.zeros(1, TRAITS)[0]
    orientation = _orientation(image)
    traits["width_px"], traits["height_px"] = image.size if orientation < 5 else image.size[::-1]
    traits["orientation"], traits["size_bytes"] = orientation, size_bytes
    traits["format"], traits["mode"] = (image.format or "").encode()[:8], image.mode.encode()[:8]
    tables = getattr(image, "quantization", None)
    traits["quantisation"] = np.mean(tables[min(tables)]) if tables else 0.0
    traits["is_progressive"] = bool(image.info.get("progressive") or image.info.get("progression"))
    traits["has_exif"] = "exif" in image.info
    traits["has_profile"] = "icc_profile" in image.info
    return traits


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except BROKEN_EXIF:
        return 1  # a damaged EXIF block says nothing; decoding leaves such a photo as it is stored
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _has_end(file: PhotoFile, image_format: str, most: int) -> bool:
    """Whether the mark that ends a JPEG or a PNG is at its end, or among its first `most` bytes. Other formats: True.

    Decoders are content with less.

    A JPEG's end-of-image marker has to follow its first scan, in whose data 0xFF is never followed by 0xD9.

    Source: ITU-T T.81, B.1.1.5 (byte stuffing) and table B.1 (markers SOS 0xFFDA, EOI 0xFFD9); W3C PNG, section 11.2.5 (IEND).
    """
    mark = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}.get(image_format)
    if mark is None:
        return True
    file.seek(-len(mark), 2)
    if BufferedReader.read(file) == mark:
        return True
    file.seek(0)
    data = BufferedReader.read(file, most)  # junk after the end, or a second picture; rare
    return data.find(mark, 0 if image_format == "PNG" else max(_first_scan(data), 0)) >= 0


def _first_scan(data: bytes) -> int:
    """Position of the first start-of-scan marker, found segment by segment; -1 where there is none."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return -1
        if data[at + 1] == 0xDA:
            return at
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return -1


def _measure_pixels(traits: Traits, pixels: Pixels) -> NDArray[np.uint8]:
    """Fill in what the pixels say; returns the grey picture."""
    from PIL import Image

    whole = Image.fromarray(pixels)
    levels = np.arange(256, dtype=np.float64)
    counts = np.reshape(whole.histogram(), (3, 256)).astype(np.float64)
    traits["mean"], traits["mean_square"] = (counts @ levels**power / whole.width / whole.height for power in (1, 2))
    factor = next((factor for factor in (8, 4, 2) if min(whole.size) // factor >= REDUCED_PX), 1)
    small = whole.reduce(factor) if factor > 1 else whole
    if min(small.size) > 2 * REDUCED_PX:
        scale = REDUCED_PX / min(small.size)
        small = small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.BOX)
    grey = small.convert("L")
    traits["sharpness"] = _sharpness(np.asarray(grey, np.float32))
    square = np.asarray(grey.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))
    colours = np.asarray(small.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))
    traits["brightness"], traits["contrast"] = square.mean(), square.std()
    traits["darkest"], traits["brightest"] = _percentiles(square)
    traits["colour"] = _percentiles(colours.max(axis=2) - colours.min(axis=2))[1]
    return square


def _percentiles(values: NDArray[np.uint8]) -> tuple[int, int]:
    """The 1st and the 99th percentile: values that occur. numpy.percentile takes ten times as long."""
    tail = values.size // 100
    ordered = np.partition(values, (tail, values.size - 1 - tail), axis=None)
    return int(ordered[tail]), int(ordered[-1 - tail])


def _sharpness(grey: NDArray[np.float32]) -> float:
    """How much of the detail is fine: what neighbours one pixel apart differ by, against those four pixels apart.

    A blurred edge spreads over several pixels, so that close neighbours differ little where far ones differ much; the
    quotient is free of contrast and brightness. Between 0 (blurred) and about 1 (noise).

    Args:
        grey: `(height, width)` float32.
    """
    if min(grey.shape) < 9:
        return 1.0
    near = np.abs(grey[1:] - grey[:-1]).mean() + np.abs(grey[:, 1:] - grey[:, :-1]).mean()
    far = np.abs(grey[4:] - grey[:-4]).mean() + np.abs(grey[:, 4:] - grey[:, :-4]).mean()
    return float(near / far) if far > 0.5 else 1.0
