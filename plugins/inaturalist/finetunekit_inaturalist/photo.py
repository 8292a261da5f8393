"""A photo: fetched, checked to the last pixel, and recorded with its origin."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from finetunekit import Client, DataError, Refused, decode_photo
from finetunekit_inaturalist.responses import Candidate

#: A 1024-px JPEG has 0.1 to 0.6 MB.
MAX_PHOTO_BYTES = 8_000_000
MAX_PHOTO_PIXELS = 16_000_000
MEDIA_TYPES = frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp"})
#: Format by content → file name ending. MPO is a JPEG with more pictures behind the first.
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}


@dataclass(frozen=True, slots=True)
class Received:
    """A photo in memory that decodes from the first pixel to the last; sides are those of the photo the right way up."""

    content: bytes
    suffix: str
    sha256: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo on disk that was received whole and decodes.

    Attributes:
        candidate: Where it came from.
        label: Class name.
        split: One of `train`, `valid`, `test`.
        name: File name.
        sha256: Of the file, hexadecimal.
        size_bytes: Of the file.
        width_px: The right way up.
        height_px: The right way up.
    """

    candidate: Candidate
    label: str
    split: str
    name: str
    sha256: str
    size_bytes: int
    width_px: int
    height_px: int

    @property
    def path(self) -> str:
        """Below the set's folder, with `/`."""
        return f"images/{self.split}/{self.label}/{self.name}"


def receive_photo(client: Client, url: str, *, min_side_px: int) -> Received:
    """Ask for a photo and look at all of it.

    Raises:
        Refused: If the server refuses, or what it sends is not a photo, is damaged, too large or too small.
        Unreachable: If there is no whole answer after every attempt.
    """
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo"
        with path.open("wb") as out:
            received = client.get(url, out, max_bytes=MAX_PHOTO_BYTES, headers={"Accept": "image/*"})
        if received.media_type not in MEDIA_TYPES:
            raise Refused(f"is {received.media_type or 'of no type'}, not a photo")
        try:
            height_px, width_px, _ = decode_photo(path, max_pixels=MAX_PHOTO_PIXELS).shape
        except DataError as exc:
            raise Refused(str(exc).removeprefix(f"{path}: ").partition(". ")[0]) from exc
        with Image.open(path) as image:
            suffix = SUFFIXES.get(image.format or "")
        if suffix is None:
            raise Refused(f"is {image.format}, not JPEG, PNG or WebP")
        if min(width_px, height_px) < min_side_px:
            raise Refused(f"{width_px} x {height_px} px is smaller than {min_side_px} px")
        return Received(path.read_bytes(), suffix, received.checksum.removeprefix("sha256:"), width_px, height_px)
