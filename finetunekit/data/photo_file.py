"""Photo files opened safely: which formats count, what a header may claim, one line on each way it can fail."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from finetunekit.data.not_photos import LOOKED_AT, what_it_is
from finetunekit.data.png_chunks import without_large_texts
from finetunekit.errors import DataError
from finetunekit.system.files import NotRegularError, open_regular
from finetunekit.system.formatting import escaped, one_line

if TYPE_CHECKING:
    from PIL import Image

#: Formats that people train on, in the order in which they are tried. Pillow decodes each by itself: none opens another format inside,
#: as IPTC, ICO or ICNS do, and none starts a program, as EPS does. TGA comes last, since it has no mark of its own.
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM", "TGA")
#: MPO is a JPEG with more pictures behind the first: Pillow's opener of JPEG says so.
FOUND_FORMATS = frozenset({*PHOTO_FORMATS, "MPO"})
MOST_SCANS = 64
"""Of one JPEG, each of which goes over all its pixels; progressive ones have about ten."""
HEADER_BYTES, HEADER_S = 128 * 2**20, 5.0
"""What may be read, and the processor time it may take, until a photo says how large it is; WebP and AVIF are read whole for that."""
PIXEL_BYTES, FREE_BYTES = 16, 16 * 2**20
"""What may be read of a photo for each pixel that it claims, and beside that."""
PIXEL_READS, FREE_READS = 2, 500_000
"""How many times; decoders written in Python read byte by byte, as of a BMP with runs."""
DECODE_S, PIXELS_PER_S = 5.0, 20e6
"""Processor time that decoding may take, whatever the size; and the pixels that give it a second more."""
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
_SOS, _EOI, _BARE = 0xDA, 0xD9, (0x01, 0xD8)
HEIF_BRANDS = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim", b"ftypheis", b"ftypmif1", b"ftypmsf1")
REPLACE = "Replace it or take it out of the data."


def photo_formats() -> tuple[str, ...]:
    """Names of Pillow's formats that count as photos, in the order in which they are tried."""
    from PIL import Image

    _register_formats()
    return tuple(name for name in PHOTO_FORMATS if name in Image.OPEN)


def photo_suffixes() -> frozenset[str]:
    """File name endings, lower case with the dot, of every format that counts as a photo and can be read here."""
    from PIL import Image

    formats = {*photo_formats(), "MPO"}
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


class Helper(Protocol):
    """A process that decodes."""

    def is_alive(self) -> bool:
        """Whether it can still be asked."""

    def close(self) -> None:
        """End it."""


H = TypeVar("H", bound=Helper)


class _PillowGuard:
    """While at least one thread decodes: Pillow's warnings are silent, its own size limit is no lower than ours, helpers are kept.

    Both are settings of the whole process, so entries are counted: the first thread in changes them, the last one out
    puts them back. Pillow's limit is touched only where it would refuse what `max_pixels` allows, that is, where
    `max_pixels` is above twice `Image.MAX_IMAGE_PIXELS`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._quiet = warnings.catch_warnings()
        self._limit: int | None = None
        self._helpers: list[Helper] = []
        self._keepers = 0

    def taken(self, make: Callable[[], H]) -> H:
        """A helper that nobody uses at the moment, or a new one."""
        with self._lock:
            while self._helpers:
                helper = self._helpers.pop()
                if helper.is_alive():
                    return cast("H", helper)
                helper.close()
        return make()

    def give_back(self, helper: Helper) -> None:
        """Keep a helper for the next photo, from any thread inside."""
        with self._lock:
            self._helpers.append(helper)

    @contextmanager
    def keeping_helpers(self) -> Iterator[None]:
        """Meanwhile helpers stay when no photo is being decoded: for whoever gets one photo now and another later."""
        with self._lock:
            self._keepers += 1
        try:
            yield
        finally:
            with self._lock:
                self._keepers -= 1
                self._close_unneeded()

    def _close_unneeded(self) -> None:
        if not self._inside and not self._keepers:
            while self._helpers:
                self._helpers.pop().close()

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
                self._close_unneeded()


pillow_guard = _PillowGuard()


class OverBudgetError(Exception):
    """Decoding a photo takes more than a photo of its size can need."""


class PhotoFile(BufferedReader):
    """A photo's file that counts what is read of it, and the processor time of the thread that reads.

    Decoders written in Python, and those fed piece by piece, are ended by the read that is one too many.
    """

    def __init__(self, raw: RawIOBase) -> None:
        """Of a file just opened, with what a header may take."""
        super().__init__(raw)
        self.allow(HEADER_BYTES, HEADER_S)

    def allow(self, size_bytes: int, seconds: float, reads: int = FREE_READS) -> None:
        """Begin to count anew."""
        self.left_bytes, self._left_reads, self._seconds = size_bytes, reads, seconds
        self._until_s = time.thread_time() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file's, until the budget is spent.

        Raises:
            OverBudgetError: If it is.
        """
        if size is None or size < 0 or size > self.left_bytes:
            size = min(
                self.left_bytes + 1, os.fstat(self.fileno()).st_size + 1
            )  # as much memory is set aside as is asked for
        data = super().read(size)
        self.left_bytes -= len(data)
        self._left_reads -= 1
        if self.left_bytes < 0 or self._left_reads < 0:
            raise OverBudgetError("more has to be read than a photo of its size can need")
        if (len(data) > 4096 or self._left_reads % 64 == 0) and time.thread_time() > self._until_s:
            raise OverBudgetError(f"it takes longer than {self._seconds:.0f} s")
        return data


@contextmanager
def open_photo_file(path: Path) -> Iterator[PhotoFile]:
    """Open a regular, non-empty file for reading.

    Raises:
        DataError: If it is missing, a folder, no regular file, empty, or may not be read.
    """
    try:
        raw = open_regular(path, buffering=0)
    except FileNotFoundError as exc:
        raise photo_error(path, "no such file", "Check the path, or the link if it is one.") from exc
    except PermissionError as exc:
        raise photo_error(path, "no permission to read it", "Make it readable or take it out of the data.") from exc
    except IsADirectoryError as exc:
        raise photo_error(path, "is a folder, not a photo", "Name the photos in it.") from exc
    except NotRegularError as exc:
        raise photo_error(path, "is no regular file") from exc
    except (OSError, ValueError) as exc:
        raise photo_error(path, f"cannot be opened ({one_line(exc)})", "Check the path.") from exc
    with PhotoFile(raw) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise photo_error(path, "the file is empty (0 bytes)")
        yield file


@contextmanager
def held_photo(content: bytes, path: Path) -> Iterator[PhotoFile]:
    """A photo's bytes as `open_photo_file` gives them; no name in any folder leads to them.

    Args:
        content: Of the file.
        path: How messages call it.

    Raises:
        DataError: If there are none.
    """
    if not content:
        raise photo_error(path, "the file is empty (0 bytes)")
    with tempfile.TemporaryFile(buffering=0) as raw:
        rest = memoryview(content)
        while rest:
            rest = rest[raw.write(rest) :]
        raw.seek(0)
        with PhotoFile(raw) as file:
            yield file


def read_header(file: PhotoFile, path: Path, *, max_pixels: int) -> Image.Image:
    """Recognise the photo and refuse one that claims too many pixels or too much work; nothing is decoded yet.

    What may be read of the file from here on is what a photo of that size can need.

    Raises:
        DataError: If the content is not a photo, or its header claims more than `max_pixels` or no pixels.
    """
    from PIL import Image, UnidentifiedImageError

    from finetunekit.data.decode_apart import check_header_apart

    try:
        check_header_apart(file, path)
        image = Image.open(without_large_texts(file, HEADER_BYTES) or file, formats=photo_formats())
    except DataError:
        raise
    except UnidentifiedImageError as exc:
        raise _no_photo(file, path) from exc
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
    pixels = width_px * height_px
    file.allow(PIXEL_BYTES * pixels + FREE_BYTES, DECODE_S + pixels / PIXELS_PER_S, PIXEL_READS * pixels + FREE_READS)
    if image.format in ("JPEG", "MPO"):
        _check_scans(file, path)
    return image


def _check_scans(file: PhotoFile, path: Path) -> None:
    """Refuse a JPEG that would be gone over very many times; what follows its end, such as the film of a phone, is not looked at."""
    place, most = file.tell(), file.left_bytes
    file.seek(0)
    if _count_marks(file, most) > MOST_SCANS:
        file.seek(0)
        if _count_scans(BufferedReader.read(file, most)) > MOST_SCANS:
            cause = f"refused before decoding: a JPEG of more than {MOST_SCANS} scans"
            raise photo_error(path, cause, "Save it again if it is genuine.")
    file.seek(place)


def _count_marks(file: PhotoFile, most: int) -> int:
    """Pairs of bytes that may begin a scan: never fewer than there are scans."""
    count, last = 0, b""
    while most > 0 and (data := BufferedReader.read(file, min(most, 2**20))):
        count += data.count(b"\xff\xda") + (last == b"\xff" and data[0] == _SOS)
        last, most = data[-1:], most - len(data)
    return count


def _count_scans(data: bytes) -> int:
    """Scans up to the end-of-image marker, found segment by segment.

    Source: ITU-T T.81, B.1.1 (markers, byte stuffing, fill bytes, segments and their lengths) and table B.1.
    """
    at = count = 0
    while (found := _MARKER.search(data, at)) and found[1][0] != _EOI:
        at = found.end()
        if found[1][0] not in _BARE:
            count += found[1][0] == _SOS
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return count


def check_decoded(image: Image.Image, claimed: tuple[int, int], path: Path) -> None:
    """Refuse what decoding made of an image where that is not what its header had claimed; some are turned upright by it.

    Raises:
        DataError: If size or format are other ones now.
    """
    if sorted(image.size) != sorted(claimed) or image.format not in FOUND_FORMATS:
        width_px, height_px = image.size
        claim = f"{claimed[0]} x {claimed[1]}"
        raise photo_error(path, f"its header claims {claim} pixels, and it decodes to {width_px} x {height_px}")


def largest_file_bytes(max_pixels: int) -> int:
    """The largest file that is read of photos with so many pixels: 8 bytes a pixel (16-bit RGBA, not compressed) and 64 MiB."""
    return 8 * max_pixels + 64 * 2**20


def check_file_size(file: PhotoFile, path: Path, *, max_pixels: int) -> None:
    """Refuse a file that no photo of so many pixels needs, see `largest_file_bytes`.

    Raises:
        DataError: If it is larger.
    """
    size_bytes, allowed = os.fstat(file.fileno()).st_size, largest_file_bytes(max_pixels)
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
    if isinstance(exc, OverBudgetError):
        return photo_error(path, f"cannot be decoded within bounds ({exc})")
    if "truncated" in str(exc):
        return truncated(path)
    return photo_error(path, f"cannot be decoded ({one_line(exc)})")


def _too_large(path: Path, claim: str, max_pixels: int) -> DataError:
    return photo_error(
        path,
        f"refused before decoding: {claim}, allowed are {max_pixels} pixels",
        "Raise data.max_photo_pixels if it is genuine.",
    )


def _no_photo(file: PhotoFile, path: Path) -> DataError:
    """The error for content in none of the formats, with what it is where that can be told."""
    file.allow(LOOKED_AT, HEADER_S)
    file.seek(0)
    start = file.read(LOOKED_AT)
    if known := what_it_is(start):
        return photo_error(path, *known)
    heic = start[4:12] in HEIF_BRANDS and ".heic" not in photo_suffixes()
    hint = " (HEIC: pip install 'finetunekit[heic]')" if heic else ""
    return photo_error(path, f"is not a photo in a format that is read here{hint}")
