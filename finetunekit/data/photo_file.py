"""Photo files opened safely: which formats count, what a header may claim, one line on each way it can fail."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit.errors import DataError
from finetunekit.system.formatting import escaped, one_line

if TYPE_CHECKING:
    from PIL import Image

#: Registered by Pillow, but no photos: containers it only recognises (BUFR, GRIB, HDF5, MPEG), vector files it draws on
#: one operating system only (WMF), and PostScript, for which it would run Ghostscript on a stranger's file.
NOT_PHOTO_FORMATS = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS"})
#: Tried first, since nearly every photo is one of these; the rest follow in Pillow's order.
COMMON_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
HEIF_BRANDS = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypheis", b"ftypmif1", b"ftypmsf1")
REPLACE = "Replace it or take it out of the data."


def photo_formats() -> tuple[str, ...]:
    """Names of Pillow's formats that count as photos, in the order in which they are tried."""
    from PIL import Image

    _register_formats()
    known = [name for name in Image.ID if name not in NOT_PHOTO_FORMATS]
    return (
        *(name for name in COMMON_FORMATS if name in known),
        *(name for name in known if name not in COMMON_FORMATS),
    )


def photo_suffixes() -> frozenset[str]:
    """File name endings, lower case with the dot, of every format that counts as a photo and can be read here."""
    from PIL import Image

    formats = {
        *photo_formats(),
        "MPO",
    }  # MPO has no opener of its own: it is a JPEG with more pictures behind the first
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


@functools.cache
def _register_formats() -> None:
    """Let Pillow register all it has, and HEIC where the package `pillow-heif` is installed."""
    from PIL import Image

    Image.init()
    if importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()


def photo_error(path: Path, cause: str, remedy: str = REPLACE) -> DataError:
    """One line on one file: which, what is wrong with it, what to do."""
    return DataError(f"{escaped(str(path))}: {cause}. {remedy}")


class _PillowGuard:
    """While at least one thread decodes, Pillow's warnings are silent and its own size limit is no lower than ours.

    Both are settings of the whole process, so entries are counted: the first thread in changes them, the last one out
    puts them back. Pillow's limit is touched only where it would refuse what `max_pixels` allows, that is, where
    `max_pixels` is above twice `Image.MAX_IMAGE_PIXELS`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._quiet = warnings.catch_warnings()
        self._limit: int | None = None

    @contextmanager
    def __call__(self, max_pixels: int) -> Iterator[None]:
        self._enter(max_pixels)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, max_pixels: int) -> None:
        from PIL import Image

        with self._lock:
            if self._inside == 0:
                self._limit = Image.MAX_IMAGE_PIXELS
                self._quiet = warnings.catch_warnings()
                self._quiet.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1
            if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
                Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)

    def _leave(self) -> None:
        from PIL import Image

        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                Image.MAX_IMAGE_PIXELS = self._limit
                self._quiet.__exit__(None, None, None)


pillow_guard = _PillowGuard()


@contextmanager
def open_photo_file(path: Path) -> Iterator[BufferedReader]:
    """Open a regular, non-empty file for reading.

    Raises:
        DataError: If it is missing, a folder, no regular file, empty, or may not be read.
    """
    try:
        file = _open_regular(path)
    except FileNotFoundError as exc:
        raise photo_error(path, "no such file", "Check the path, or the link if it is one.") from exc
    except PermissionError as exc:
        raise photo_error(path, "no permission to read it", "Make it readable or take it out of the data.") from exc
    except (OSError, ValueError) as exc:
        raise photo_error(path, f"cannot be opened ({one_line(exc)})", "Check the path.") from exc
    with file:
        yield file


def _open_regular(path: Path) -> BufferedReader:
    # Asked before opening: opening a pipe would wait for ever.
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise photo_error(path, "is a folder, not a photo", "Name the photos in it.")
    if not stat.S_ISREG(status.st_mode):
        raise photo_error(path, "is no regular file")
    if status.st_size == 0:
        raise photo_error(path, "the file is empty (0 bytes)")
    return open(path, "rb")


def read_header(file: BufferedReader, path: Path, *, max_pixels: int) -> Image.Image:
    """Recognise the photo and refuse one that claims too many pixels; nothing is decoded yet.

    Raises:
        DataError: If the content is no photo, or its header claims more than `max_pixels` or no pixels.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(file, formats=photo_formats())
    except UnidentifiedImageError as exc:
        raise photo_error(path, f"is not a photo in a format that Pillow reads{_hint(file)}") from exc
    except Image.DecompressionBombError as exc:
        raise _too_large(path, "it claims more", max_pixels) from exc
    except Exception as exc:
        # Decoders raise whatever a broken file drives them into; all of it is a property of this file.
        raise undecodable(path, exc) from exc
    width_px, height_px = image.size
    if width_px < 1 or height_px < 1:
        raise photo_error(path, f"has no pixels ({width_px} x {height_px})")
    if width_px * height_px > max_pixels:
        raise _too_large(path, f"it claims {width_px} x {height_px}", max_pixels)
    return image


def check_file_size(file: BufferedReader, path: Path, *, max_pixels: int) -> None:
    """Refuse a file that no photo of so many pixels needs: 8 bytes a pixel (16-bit RGBA, not compressed) and 64 MiB.

    Raises:
        DataError: If it is larger.
    """
    size_bytes, allowed = os.fstat(file.fileno()).st_size, 8 * max_pixels + 64 * 2**20
    if size_bytes > allowed:
        raise photo_error(
            path,
            f"refused before reading: {size_bytes:,} bytes, allowed are {allowed:,}",
            "Raise data.max_photo_pixels if it is genuine.",
        )


def truncated(path: Path) -> DataError:
    """The error for a file whose end is missing."""
    return photo_error(path, "the file is truncated: its end is missing", "Copy it again or take it out of the data.")


def undecodable(path: Path, exc: BaseException) -> DataError:
    """The error for content that a decoder gave up on."""
    if "truncated" in str(exc):
        return truncated(path)
    return photo_error(path, f"cannot be decoded ({one_line(exc)})")


def _too_large(path: Path, claim: str, max_pixels: int) -> DataError:
    return photo_error(
        path,
        f"refused before decoding: {claim}, allowed are {max_pixels} pixels",
        "Raise data.max_photo_pixels if it is genuine.",
    )


def _hint(file: BufferedReader) -> str:
    if ".heic" in photo_suffixes():
        return ""
    file.seek(4)
    return " (HEIC: pip install 'finetunekit[heic]')" if file.read(8) in HEIF_BRANDS else ""
