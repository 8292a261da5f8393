"""Small pictures of photos, made when they are first asked for and kept in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from pathlib import Path
from typing import Final

from finetunekit.data.decode import MINIATURE_PX, decode_photo, miniature
from finetunekit.errors import DataError
from finetunekit.system.files import read_regular
from finetunekit.system.user_dirs import cache_dir

#: Name in the address → long side in pixels, at most.
SIDES_PX: Final = {"small": MINIATURE_PX, "large": 1024}
_QUALITY: Final = {"small": 80, "large": 88}
_DECODED_AT_ONCE = 2
_END = b"\xff\xd9"
"""Of a JPEG file."""


class Thumbnails:
    """Makes them, a few at a time; may be called from several threads."""

    def __init__(self, max_pixels: int) -> None:
        """Refuse photos whose header claims more pixels."""
        self._max_pixels, self._folder = max_pixels, cache_dir() / "thumbnails"
        self._slots = threading.Semaphore(_DECODED_AT_ONCE)

    def picture(self, path: Path, size: str) -> bytes:
        """A JPEG, no larger than the photo is.

        Args:
            path: File of the photo.
            size: Key of `SIDES_PX`.

        Raises:
            DataError: If the photo is not there or cannot be read.
        """
        kept = self._kept(path, size)
        with contextlib.suppress(OSError):
            content = read_regular(kept)
            if content.endswith(_END):
                return content
        with self._slots:
            content = _fitted(path, size, self._max_pixels)
        with contextlib.suppress(OSError):  # where the cache cannot be written, it is made again the next time
            _keep(kept, content)
        return content

    def _kept(self, path: Path, size: str) -> Path:
        """Where it is kept: by place, size and times of the file, so that a hit reads nothing of the photo."""
        try:
            status = os.stat(path)
        except OSError as exc:
            raise DataError(f"the photo is not there any more ({exc.strerror or exc})") from exc
        known = (
            os.path.abspath(path),
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            SIDES_PX[size],
            _QUALITY[size],
        )
        key = hashlib.sha256("\0".join(map(str, known)).encode(errors="surrogateescape")).hexdigest()
        return self._folder / key[:2] / f"{key}.jpg"


def _keep(path: Path, content: bytes) -> None:
    """Renamed when it is written, but not synced: what a power cut leaves of it has no end mark, and is made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    partial.write_bytes(content)
    os.replace(partial, path)


def _fitted(path: Path, size: str, max_pixels: int) -> bytes:
    from PIL import Image

    side_px = SIDES_PX[size]
    pixels = decode_photo(path, max_pixels=max_pixels)
    photo = Image.fromarray(miniature(pixels) if size == "small" else pixels)
    photo.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    photo.save(stream, "JPEG", quality=_QUALITY[size])
    return stream.getvalue()
