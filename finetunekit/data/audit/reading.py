"""Every photo of a listing measured once: from the store where its content is known, from the file where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.signature import SIGNATURE, Signature, read_sha256, read_signature
from finetunekit.data.audit.store import SignatureStore
from finetunekit.data.index import shown_path
from finetunekit.data.opening import pillow_guard
from finetunekit.data.parallel import gather
from finetunekit.errors import DataError
from finetunekit.types import DISPLAY, PhotoListing

#: A signature without its picture: what is kept in memory of every photo.
TRAITS = np.dtype([(name, SIGNATURE[name]) for name in SIGNATURE.names or () if name != "grey"])
_CHUNK = 512
Count = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class AuditedPhoto:
    """One photo of one split.

    Attributes:
        path: The file.
        shown: Path relative to the listing's root, on one line.
        label: Its class.
        split: `train`, `valid` or `test`.
        group: What it belongs to, if the source says so.
        sha256: Of the file, hexadecimal; empty where it cannot be read.
    """

    path: Path
    shown: str
    label: str
    split: str
    group: str | None
    sha256: str


@dataclass(frozen=True, slots=True)
class AuditedPhotos:
    """What was read.

    Attributes:
        readable: Photos that can be used, in the listing's order. A file that stands in two splits is there twice.
        traits: `(readable,)` of dtype `TRAITS`.
        unreadable: The others, each with what is wrong with it.
        measured: How many files were decoded; the others were known by their content.
    """

    readable: tuple[AuditedPhoto, ...]
    traits: NDArray[Any]
    unreadable: tuple[tuple[AuditedPhoto, str], ...]
    measured: int


def read_photos(
    listing: PhotoListing,
    store: SignatureStore,
    *,
    max_pixels: int,
    known_sha256: Mapping[Path, str] | None = None,
    workers: int = 2,
    count: Count | None = None,
) -> AuditedPhotos:
    """Hash and measure the photos of the splits that are trained on and scored; display photos are passed over.

    Args:
        listing: From a data source.
        store: What is known by content.
        max_pixels: Photos whose header claims more are refused.
        known_sha256: Checksums of files that were read a moment before.
        workers: Number of threads.
        count: Called with (files done, files in all).

    Returns:
        Readable and unreadable photos. Memory: a few hundred bytes a photo.
    """
    records = [record for record in listing.photos if record.split != DISPLAY]
    paths = list(dict.fromkeys(record.path for record in records))
    reader = _Reader(store, max_pixels, workers, dict(known_sha256 or {}))
    for start in range(0, len(paths), _CHUNK):
        reader.read(paths[start : start + _CHUNK])
        if count is not None:
            count(min(start + _CHUNK, len(paths)), len(paths))
    readable, traits, unreadable = [], [], []
    for record in records:
        sha256 = reader.sha256.get(record.path, "")
        shown = shown_path(record.path, listing.root)
        photo = AuditedPhoto(record.path, shown, record.label or "", record.split, record.group, sha256)
        if record.path in reader.problems:
            unreadable.append((photo, reader.problems[record.path]))
        else:
            readable.append(photo)
            traits.append(reader.traits[sha256])
    stacked = np.stack(traits) if traits else np.zeros(0, TRAITS)
    return AuditedPhotos(tuple(readable), stacked, tuple(unreadable), reader.measured)


class _Reader:
    def __init__(self, store: SignatureStore, max_pixels: int, workers: int, sha256: dict[Path, str]) -> None:
        self.store, self.max_pixels, self.workers, self.sha256 = store, max_pixels, workers, sha256
        self.traits: dict[str, Any] = {}
        self.problems: dict[Path, str] = {}
        self.measured = 0

    def read(self, paths: Sequence[Path]) -> None:
        self._each(read_sha256, [path for path in paths if path not in self.sha256], self.sha256)
        usable = [path for path in paths if path not in self.problems]
        known = self.store.known(list({self.sha256[path] for path in usable}))
        first = {self.sha256[path]: path for path in reversed(usable) if self.sha256[path] not in known}
        found: dict[Path, Signature] = {}
        self._each(lambda path: read_signature(path, max_pixels=self.max_pixels), list(first.values()), found)
        new = {sha256: found[path] for sha256, path in first.items() if path in found}
        self.store.add(new)
        self.measured += len(new)
        for sha256, signature in (known | new).items():
            self.traits[sha256] = np.frombuffer(signature.tobytes()[: TRAITS.itemsize], TRAITS)[0]
        for path in usable:  # a second file of the same broken content
            if self.sha256[path] not in self.traits and path not in self.problems:
                self.problems[path] = self.problems[first[self.sha256[path]]]

    def _each(self, work: Callable[[Path], Any], paths: list[Path], found: dict[Path, Any]) -> None:
        def attempt(path: Path) -> tuple[Path, Any, str]:
            try:
                return path, work(path), ""
            except DataError as exc:
                return path, None, str(exc)

        with pillow_guard(self.max_pixels):
            results, _ = gather(attempt, paths, workers=self.workers)
        for path, result, problem in results:
            if problem:
                self.problems[path] = problem
            else:
                found[path] = result
