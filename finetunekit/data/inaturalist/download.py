"""One photo: asked for, looked at, and put in its place whole or not at all."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from finetunekit.data.decode import decode_stream
from finetunekit.data.inaturalist.http_errors import Refused
from finetunekit.data.inaturalist.transport import Response, Transport
from finetunekit.data.opening import REPLACE, pillow_guard, read_header
from finetunekit.errors import DataError
from finetunekit.system.files import write_whole

#: A 1024-px JPEG has 0.1 to 0.6 MB.
MAX_PHOTO_BYTES = 8_000_000
MAX_PHOTO_PIXELS = 16_000_000
MEDIA_TYPES = frozenset({"image/jpeg", "image/jpg", "image/png", "image/webp"})
#: Format by content → file name ending. MPO is a JPEG with more pictures behind the first.
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}


@dataclass(frozen=True, slots=True)
class Received:
    """A photo in memory that decodes from the first pixel to the last."""

    content: bytes
    suffix: str
    sha256: str
    width_px: int
    height_px: int


def receive_photo(transport: Transport, url: str, *, min_side_px: int) -> Received:
    """Ask for a photo and look at all of it.

    Raises:
        Refused: If the server refuses, or what it sends is no photo, is damaged, too large or too small.
        Unreachable: If there is no whole answer after every attempt.
        FetchError: If the server asks for a very long pause.
    """
    answer = transport.get(url, max_bytes=MAX_PHOTO_BYTES, headers={"Accept": "image/*"})
    if answer.media_type not in MEDIA_TYPES:
        raise Refused(f"is {answer.media_type or 'of no type'}, not a photo")
    kind, width_px, height_px = _decode(answer)
    if kind not in SUFFIXES:
        raise Refused(f"is {kind}, not JPEG, PNG or WebP")
    if min(width_px, height_px) < min_side_px:
        raise Refused(f"{width_px} x {height_px} px is smaller than {min_side_px} px")
    sha256 = hashlib.sha256(answer.content).hexdigest()
    return Received(answer.content, SUFFIXES[kind], sha256, width_px, height_px)


def _decode(answer: Response) -> tuple[str, int, int]:
    """Format, width and height, the right way up, after every pixel was decoded."""
    shown = Path(answer.url.rpartition("/")[2] or "photo")
    try:
        with pillow_guard(MAX_PHOTO_PIXELS):
            file = cast(io.BufferedReader, io.BytesIO(answer.content))  # read and sought, as a file would be
            kind = read_header(file, shown, max_pixels=MAX_PHOTO_PIXELS).format or ""
            file.seek(0)
            height_px, width_px, _ = decode_stream(file, shown, max_pixels=MAX_PHOTO_PIXELS).shape
    except DataError as exc:
        raise Refused(str(exc).partition(": ")[2].removesuffix(f". {REPLACE}")) from exc
    return kind, width_px, height_px


def store_photo(received: Received, path: Path) -> None:
    """Write a photo beside its place and rename it there.

    Raises:
        RunFolderError: If it cannot be written.
    """
    write_whole(path, received.content)
