"""What one pass over a photo file tells: header facts, a small grey picture to compare with others, and a few light statistics.

A JPEG is decoded at a half, a quarter or an eighth of its size, whichever still covers the small picture, so that a
photo costs a millisecond or two; every byte of it is read, so that a truncated one is found.
"""

from __future__ import annotations

import hashlib
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.decode import to_rgb, turn_upright
from finetunekit.data.opening import open_photo_file, photo_error, pillow_guard, read_header, undecodable
from finetunekit.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

#: Side of the grey picture that photos are compared by.
SIDE_PX = 48
#: A JPEG is decoded no smaller than this on its shorter side, so that blur can be told.
DECODED_PX = 128
#: Change it whenever a field or a formula below changes: what was kept under another number is not read.
VERSION = 1

SIGNATURE = np.dtype(
    [
        ("size_bytes", "<u8"),
        ("width_px", "<u4"),
        ("height_px", "<u4"),
        ("format", "S8"),
        ("mode", "S8"),
        ("quantisation", "<f4"),
        ("is_progressive", "?"),
        ("has_exif", "?"),
        ("has_profile", "?"),
        ("brightness", "<f4"),
        ("contrast", "<f4"),
        ("darkest", "<f4"),
        ("brightest", "<f4"),
        ("colour", "<f4"),
        ("sharpness", "<f4"),
        ("grey", "u1", (SIDE_PX, SIDE_PX)),
    ]
)
"""One photo, 2,366 bytes; little-endian wherever it was measured.

`width_px`, `height_px`: as stored in the file. `quantisation`: mean of a JPEG's luminance quantisation table, larger
for stronger compression, 0 for other formats. `brightness`, `contrast`: mean and standard deviation of grey levels.
`darkest`, `brightest`: their 1st and 99th percentile. `colour`: 99th percentile of a pixel's distance between its
largest and smallest channel. All in grey levels, [0, 255]. `sharpness`: see `_sharpness`. `grey`: the photo stretched
to a square, the right way up.
"""

Signature = NDArray[Any]


def read_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        DataError: If it cannot be read.
    """
    with open_photo_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_signature(path: Path, *, max_pixels: int) -> Signature:
    """Measure a photo file. Call it inside `pillow_guard`, or let it enter the guard itself.

    Args:
        path: The file.
        max_pixels: A header that claims more is refused before anything is decoded.

    Returns:
        One record of dtype `SIGNATURE`, shape `()`.

    Raises:
        DataError: If the file cannot be read, is no photo, or is truncated.
    """
    with pillow_guard(max_pixels), open_photo_file(path) as file:
        image = read_header(file, path, max_pixels=max_pixels)
        size = image.size
        record = np.zeros((), SIGNATURE)
        _describe_file(record, image, path)
        try:
            image.draft(None, (DECODED_PX, DECODED_PX))
            image.load()
        except Exception as exc:
            # Decoders raise whatever a broken file drives them into; all of it is a property of this file.
            raise _truncated(path) if "truncated" in str(exc) else undecodable(path, exc) from exc
        if not _has_end(file, image.format or ""):
            raise _truncated(path)
        record["width_px"], record["height_px"] = size
        _measure_pixels(record, image, path)
    return record


def _truncated(path: Path) -> DataError:
    return photo_error(path, "the file is truncated: its end is missing", "Copy it again or take it out of the data.")


def _describe_file(record: Signature, image: Image.Image, path: Path) -> None:
    record["size_bytes"] = path.stat().st_size
    record["format"] = (image.format or "").encode()[:8]
    record["mode"] = image.mode.encode()[:8]
    tables = getattr(image, "quantization", None)
    record["quantisation"] = np.mean(tables[min(tables)]) if tables else 0.0
    record["is_progressive"] = bool(image.info.get("progressive") or image.info.get("progression"))
    record["has_exif"] = "exif" in image.info
    record["has_profile"] = "icc_profile" in image.info


def _has_end(file: BufferedReader, image_format: str) -> bool:
    """Whether the mark that ends a JPEG or a PNG is there: decoders are content with less. Other formats: True.

    A JPEG's end-of-image marker has to follow its first scan, in whose data 0xFF is never followed by 0xD9.

    Source: ITU-T T.81, B.1.1.5 (byte stuffing) and table B.1 (markers SOS 0xFFDA, EOI 0xFFD9); W3C PNG, section 11.2.5 (IEND).
    """
    mark = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}.get(image_format)
    if mark is None:
        return True
    file.seek(-len(mark), 2)
    if file.read() == mark:
        return True
    file.seek(0)
    data = file.read()  # junk after the end, or a second picture; rare
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


def _measure_pixels(record: Signature, image: Image.Image, path: Path) -> None:
    from PIL import Image

    try:
        turn_upright(image)
        small = _as_rgb(image)
        if min(small.size) > 2 * DECODED_PX:  # a format that cannot be decoded at a fraction
            scale = DECODED_PX / min(small.size)
            small = small.resize((round(small.width * scale), round(small.height * scale)), Image.Resampling.BOX)
        grey = small.convert("L")
        record["sharpness"] = _sharpness(np.asarray(grey, np.float32))
        square = np.asarray(grey.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))
        colours = np.asarray(small.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))
    except Exception as exc:
        raise undecodable(path, exc) from exc
    record["grey"] = square
    record["brightness"], record["contrast"] = square.mean(), square.std()
    record["darkest"], record["brightest"] = _percentiles(square)
    record["colour"] = _percentiles(colours.max(axis=2) - colours.min(axis=2))[1]


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    from PIL import Image

    return Image.fromarray(to_rgb(image))


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
