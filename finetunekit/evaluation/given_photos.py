"""Photos as Python has them: paths, bytes, PIL images and arrays, as files that are read like any other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.photo_paths import find_photos
from finetunekit.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

#: One photo, or what holds several: a folder, a table, an archive, a batch of arrays.
GivenPhoto: TypeAlias = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, "Image", "NDArray[np.uint8]"]


@dataclass(frozen=True, slots=True)
class GivenFile:
    """A photo to read.

    Attributes:
        file: Where it lies; gone after `photo_files` if it was given as pixels or bytes.
        name: What it is called: its path, or `photo 3` for the third that was given.
        is_kept: Whether the file is the user's own.
    """

    file: Path
    name: Path
    is_kept: bool


@contextmanager
def photo_files(given: GivenPhoto | Iterable[GivenPhoto]) -> Iterator[list[GivenFile]]:
    """Everything that was given as files, in the order given; those that had to be written are removed again.

    Args:
        given: Paths of photos, folders, tables and archives; the bytes of photo files; PIL images; arrays `(height, width)`, `(height,
            width, 1, 3 or 4)` of uint8, or a batch `(photos, height, width, channels)` of them. One of them, or several.

    Raises:
        DataError: If a path does not exist, a folder holds no photo, or an array is not a picture.
    """
    with tempfile.TemporaryDirectory(prefix="finetunekit-") as folder:
        found: list[GivenFile] = []
        for number, photo in enumerate(_each(given), 1):
            if isinstance(photo, (str, os.PathLike)):
                found += [GivenFile(path, path, is_kept=True) for path in find_photos([os.fspath(photo)])]
            else:
                file = Path(folder, f"{number}")
                file.write_bytes(_content(photo, number))
                found.append(GivenFile(file, Path(f"photo {number}"), is_kept=False))
        try:
            yield found
        except DataError as exc:  # a file that was written here is called as the user can count it
            raise DataError([_renamed(line, found) for line in exc.problems]) from exc


def _renamed(line: str, files: Sequence[GivenFile]) -> str:
    for given in files:
        if not given.is_kept and line.startswith(f"{given.file}:"):
            return line.replace(str(given.file), str(given.name), 1)
    return line


def _each(given: GivenPhoto | Iterable[GivenPhoto]) -> Iterator[GivenPhoto]:
    if isinstance(given, np.ndarray):
        yield from given if given.ndim == 4 else [given]
    elif isinstance(given, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(given, "getbands"):
        yield given  # type: ignore[misc]
    else:
        for one in given:
            yield from one if isinstance(one, np.ndarray) and one.ndim == 4 else [one]


def _content(photo: object, number: int) -> bytes:
    """The bytes of a photo file; pixels as PNG, which loses nothing."""
    if isinstance(photo, (bytes, bytearray, memoryview)):
        return bytes(photo)
    import io

    from PIL import Image

    if isinstance(photo, np.ndarray):
        photo = Image.fromarray(_pixels(photo, number))
    if not isinstance(photo, Image.Image):
        raise DataError(
            f"photo {number}: give a path, the bytes of a file, a PIL image or an array of uint8. Received: {type(photo).__name__}"
        )
    stream = io.BytesIO()
    is_png = photo.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    (photo if is_png else photo.convert("RGB")).save(stream, "PNG", exif=photo.getexif())
    return stream.getvalue()


def _pixels(array: NDArray[np.generic], number: int) -> NDArray[np.uint8]:
    shape = array.shape[:-1] if array.ndim == 3 and array.shape[-1] in (1, 3, 4) else array.shape
    if len(shape) != 2 or 0 in shape:
        raise DataError(
            f"photo {number}: an array is (height, width) or (height, width, 1, 3 or 4). Received: {_shape(array.shape)}"
        )
    if array.dtype != np.uint8:
        raise DataError(
            f"photo {number}: pixels are uint8 from 0 to 255; others could mean anything. Received: {array.dtype}"
        )
    return np.ascontiguousarray(array[..., 0] if array.shape[-1:] == (1,) and array.ndim == 3 else array).view(np.uint8)


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"
