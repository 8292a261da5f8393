"""The photos of a run as its network is fed them, each file decoded once; and miniatures of them for reports."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.pixel_contract import fitting_of
from finetunekit.data.decode import Pixels, decode_photo, fit_photo, miniature
from finetunekit.data.parallel import bounded, gather
from finetunekit.data.photo_file import pillow_guard
from finetunekit.errors import DataError
from finetunekit.system.memory import empty_array, scratch_folder
from finetunekit.system.progress import Progress
from finetunekit.types import SPLITS

if TYPE_CHECKING:
    from finetunekit.config.sections import RunConfig
    from finetunekit.data.index import PhotoIndex

_MINIATURES_IN_MEMORY_BYTES = 4 * 2**20
_WORKERS = 2


@dataclass(frozen=True, slots=True)
class DecodedPhotos:
    """Decoded photos of one split.

    Attributes:
        pixels: `(photos, size, size, 3)` uint8 RGB.
        labels: `(photos,)` int64.
        sha256: Of each file.
        groups: Of each photo, what cross-validation must not tear apart: its group, else its content. Empty: each photo by itself.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sha256: tuple[str, ...]
    groups: tuple[str, ...] = ()

    def one_hot(self, num_classes: int) -> NDArray[np.float32]:
        """Labels, `(photos, classes)` float32."""
        rows: NDArray[np.float32] = np.eye(num_classes, dtype=np.float32)[self.labels]
        return rows

    def take(self, indices: Sequence[int]) -> DecodedPhotos:
        """Those at these places."""
        return DecodedPhotos(
            self.pixels[indices],
            self.labels[indices],
            tuple(self.sha256[i] for i in indices),
            tuple(self.groups[i] for i in indices) if self.groups else (),
        )

    def mirrored(self) -> DecodedPhotos:
        """Their mirror images, a view of the same pixels; cached features know the two apart."""
        return replace(self, pixels=self.pixels[:, :, ::-1], sha256=tuple(f"{sha} mirrored" for sha in self.sha256))


class PixelStore:
    """Pixels of the photos of some splits, as a configuration feeds them. Whoever decodes a file first puts them in for all.

    Memory: one array of all files, which goes to disk where memory is short (`finetunekit.system.memory.empty_array`); a split is a
    view of it, unless a file stands in several splits.
    """

    def __init__(
        self,
        config: RunConfig,
        progress: Progress,
        *,
        splits: Sequence[str] = SPLITS,
        miniatures: Miniatures | None = None,
    ) -> None:
        """For the photos that `expect` or `bind` names.

        Args:
            config: Says how photos are fed.
            progress: Says what is under way.
            splits: Photos of other splits are not kept.
            miniatures: Receives a miniature of every photo that is decoded.
        """
        self._feed, self._max_pixels = config.pixels, config.data.max_photo_pixels
        self._progress, self._splits, self._miniatures = progress, splits, miniatures
        self._row: dict[Path, int] = {}
        self._pixels: NDArray[np.uint8] | None = None
        self._is_there = np.zeros(0, np.bool_)
        self._lock = threading.Lock()
        self._index: PhotoIndex | None = None
        self._copied: dict[str, NDArray[np.uint8]] = {}

    def expect(self, photos: Iterable[tuple[Path, str]]) -> None:
        """Say which files will come, with their splits, so that pixels can be put in before there is an index."""
        files = dict.fromkeys(path for path, split in photos if split in self._splits)
        self._row = {path: row for row, path in enumerate(files)}
        self._is_there = np.zeros(len(files), np.bool_)

    def put(self, path: Path, sha256: str, pixels: Pixels) -> None:
        """Keep a photo that was decoded; from any thread."""
        row = self._row.get(path)
        if row is None:
            return
        self._room()[row] = fit_photo(pixels, **fitting_of(self._feed))
        self._is_there[row] = True
        if self._miniatures is not None:
            self._miniatures.put(sha256, miniature(pixels))

    def bind(self, index: PhotoIndex) -> PixelStore:
        """Say which photos the splits have; what was put in before stays."""
        files = [(photo.path, photo.split) for photo in index.photos]
        if not self._row:
            self.expect(files)
        self._index = index
        self._arrange([path for path, split in files if split in self._splits])
        return self

    def split(self, name: str) -> DecodedPhotos:
        """One split in the order of the index; photos that nobody has decoded are decoded now.

        Raises:
            DataError: One line for each photo that cannot be used; the first 20, then how many more.
        """
        assert self._index is not None, "bind comes first"
        photos = self._index.split(name)
        rows = [self._row[photo.path] for photo in photos]
        missing = {photo.path: photo.sha256 for photo, row in zip(photos, rows, strict=True) if not self._is_there[row]}
        self._decode(missing, name)
        groups = tuple(photo.group or photo.sha256 for photo in photos)
        sha256 = tuple(photo.sha256 for photo in photos)
        return DecodedPhotos(self._of_rows(rows, name), self._index.labels(name), sha256, groups)

    def _decode(self, sha256: Mapping[Path, str], what: str) -> None:
        def decode(path: Path) -> None:
            self.put(path, sha256[path], decode_photo(path, max_pixels=self._max_pixels))

        count = self._progress.counter(f"decoding {what} photos") if sha256 else None
        with pillow_guard(self._max_pixels):
            _, problems = gather(decode, tuple(sha256), workers=_WORKERS, progress=count)
        if problems:
            raise DataError(bounded(problems))

    def _of_rows(self, rows: Sequence[int], name: str) -> NDArray[np.uint8]:
        pixels, start = self._room(), rows[0] if rows else 0
        if list(rows) == list(range(start, start + len(rows))):
            return pixels[start : start + len(rows)]
        if name not in self._copied:
            self._copied[name] = self._empty(len(rows))
            for place, row in enumerate(rows):
                self._copied[name][place] = pixels[row]
        return self._copied[name]

    def _room(self) -> NDArray[np.uint8]:
        """The array of all files, made when the first photo comes."""
        with self._lock:
            if self._pixels is None:
                self._pixels = self._empty(len(self._row))
            return self._pixels

    def _empty(self, count: int) -> NDArray[np.uint8]:
        size_px = self._feed.size_px
        return empty_array((count, size_px, size_px, 3), f"{count} photos", self._progress.say)

    def _arrange(self, paths: Sequence[Path]) -> None:
        """Bring rows into the order of the index, in place: folds move photos between splits after they were decoded."""
        order = list(dict.fromkeys(paths))
        at = [self._row[path] for path in order]  # where the photo of each row lies now
        for row in range(len(at)):
            source = at[row]
            while source < row:  # it was moved when that row was filled
                source = at[source]
            if source != row:
                if self._pixels is not None:
                    self._pixels[[row, source]] = self._pixels[[source, row]]
                self._is_there[[row, source]] = self._is_there[[source, row]]
        self._row = {path: row for row, path in enumerate(order)}


class Miniatures(Mapping[str, NDArray[np.uint8]]):
    """Content of a photo file → its miniature, in a file without a name where they are many; gone with the process."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_MINIATURES_IN_MEMORY_BYTES, dir=str(scratch_folder()))  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._lock = threading.Lock()

    def put(self, sha256: str, view: NDArray[np.uint8]) -> None:
        """Keep a view, if there is room; from any thread."""
        with self._lock, contextlib.suppress(OSError):  # a full disk: whoever shows the photo reads its file
            if sha256 not in self._places:
                start = self._file.seek(0, 2)
                self._file.write(view.tobytes())
                self._places[sha256] = (start, view.shape)

    def __getitem__(self, sha256: str) -> NDArray[np.uint8]:
        start, shape = self._places[sha256]
        with self._lock:
            self._file.seek(start)
            return np.frombuffer(self._file.read(int(np.prod(shape))), np.uint8).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
