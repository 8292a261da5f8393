"""Photos of a run as small upright pictures, with a Grad-CAM map over them, and what to say of those that are not there any more."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit.errors import DataError
from finetunekit.system.files import open_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetunekit.runs.folder import FinishedRun

MAX_PHOTO_PIXELS = 100_000_000
TEXT_BYTES = 600_000
"""Kept free on a page for everything that is not a photo; one of 100 classes needs about half of it."""
#: From nothing to most, dark to light, so that it reads in grey too. Source: five colours of matplotlib's "inferno".
STOPS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))


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

    @property
    def address(self) -> str:
        """The picture as an address that needs no network."""
        return data_address(self.content or b"", "image/jpeg")


class Album:
    """The photos of a run on one page, until the page is full."""

    def __init__(self, run: FinishedRun, side_px: int, max_bytes: int) -> None:
        self._run = run
        self._side_px = side_px
        self._left_bytes = max_bytes - TEXT_BYTES

    def take(self, path: str, sha256: str) -> Thumbnail:
        """The photo that the run's rows call `path`."""
        file, miniatures = self._run.photo_path(path), self._run.miniatures
        return self.bounded(make_thumbnail(file, sha256, self._side_px, quality=82, miniatures=miniatures))

    def bounded(self, thumbnail: Thumbnail) -> Thumbnail:
        """The picture, or the sentence that the page is full."""
        self._left_bytes -= len(thumbnail.content or b"") * 4 // 3
        is_shown = self._left_bytes >= 0 or thumbnail.content is None
        return thumbnail if is_shown else Thumbnail(None, problem="left out: the page has reached its size")


def make_thumbnail(
    path: Path,
    sha256: str,
    side_px: int,
    quality: int = 88,
    *,
    miniatures: Mapping[str, NDArray[np.uint8]] | None = None,
) -> Thumbnail:
    """Open a photo, turn it upright, and fit it into a square without cropping.

    Args:
        path: Where the photo should be.
        sha256: Checksum that it had in the run: a prediction is shown only beside the pixels it was made from.
        side_px: Side of the square; smaller photos are enlarged to it.
        quality: JPEG quality from 1 to 95.
        miniatures: Miniatures at hand, see `FinishedRun`; the file is read where there is none.

    Returns:
        The picture, made from a miniature (`finetunekit.data.decode.miniature`) unless it is asked for larger; or why there is none: the
        file is missing, has changed since, or cannot be decoded.
    """
    from finetunekit.data.decode import MINIATURE_PX, decode_photo, miniature

    is_small = side_px <= MINIATURE_PX
    if is_small and miniatures and sha256 in miniatures:
        return _fit(miniatures[sha256], side_px, quality)
    try:
        with open_regular(path) as stream:
            checksum = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return Thumbnail(None, problem="photo is not here any more")
    if sha256 and checksum != sha256:
        return Thumbnail(None, problem="file has changed since the run")
    try:
        pixels = decode_photo(path, max_pixels=MAX_PHOTO_PIXELS)
    except DataError:
        return Thumbnail(None, problem="photo cannot be decoded")
    return _fit(miniature(pixels) if is_small else pixels, side_px, quality)


def _fit(pixels: NDArray[np.uint8], side_px: int, quality: int) -> Thumbnail:
    from PIL import Image

    photo = Image.fromarray(pixels)
    scale = side_px / max(photo.size)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    stream = io.BytesIO()
    photo.resize(size, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=quality, optimize=True)
    return Thumbnail(stream.getvalue(), *size)


def data_address(content: bytes, media_type: str) -> str:
    """A file as an address that needs no network."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def heat_picture(
    photo: Thumbnail, heat: Sequence[Sequence[float]], *, fit: str, crop_pct: float | None = None
) -> Thumbnail:
    """Lay a map over a thumbnail.

    Args:
        photo: The thumbnail.
        heat: `(rows, columns)` in [0, 1], covering what the network saw.
        fit: How the photo became the network's square: `stretch`, `crop` or `pad`.
        crop_pct: Side of the square that `crop` cut out, as a share of the short side; None: 1.

    Returns:
        The picture, of the thumbnail's size, or the thumbnail itself where it has none.
    """
    if photo.content is None:
        return photo
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(photo.content)) as image:
        grey = np.asarray(image.convert("L"), np.float64)
    share = _spread(np.asarray(heat, np.float32), grey.shape, seen_size(grey.shape, fit, crop_pct))[..., None]
    colours = np.stack(
        [np.interp(share[..., 0], np.linspace(0, 1, len(STOPS)), stop) for stop in zip(*STOPS, strict=True)], -1
    )
    alpha = 0.15 + 0.6 * share
    mixed = (1 - alpha) * grey[..., None] + alpha * colours
    stream = io.BytesIO()
    Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=80, optimize=True)
    return Thumbnail(stream.getvalue(), photo.width_px, photo.height_px)


def seen_size(shape: tuple[int, ...], fit: str, crop_pct: float | None) -> tuple[int, int]:
    """Height and width of what became the square, in the photo's pixels; with `pad`, more than the photo has."""
    height, width = shape
    if fit == "pad":
        return max(shape), max(shape)
    if fit == "crop":
        side = max(1, round(min(shape) * (1.0 if crop_pct is None else crop_pct)))
        return side, side
    return height, width


def _spread(heat: NDArray[np.float32], shape: tuple[int, ...], seen: tuple[int, int]) -> NDArray[np.float64]:
    """The map in the photo's pixels, `(height, width)`; nothing outside what was seen."""
    import numpy as np
    from PIL import Image

    height, width = shape
    fitted = Image.fromarray(heat).resize((seen[1], seen[0]), Image.Resampling.BICUBIC)
    canvas = np.zeros((max(height, seen[0]), max(width, seen[1])))
    top, left = (canvas.shape[0] - seen[0]) // 2, (canvas.shape[1] - seen[1]) // 2
    canvas[top : top + seen[0], left : left + seen[1]] = np.asarray(fitted).clip(0.0, 1.0)
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    return canvas[top : top + height, left : left + width]
