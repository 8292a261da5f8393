"""Many photo files measured, each decoded once, and what was found kept in the user's cache.

A file whose path, size, time of modification and time of change (`mtime`, `ctime`) are the same is not opened a second time; one of
known content is hashed, not decoded. A file changed less than two seconds before it was read is hashed again next time: a second change
within the clock's resolution would go unseen (git's "racily clean" entries, Documentation/technical/racy-git.txt, are the same problem).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.decode import Pixels
from finetunekit.data.measure import SIDE_PX, TRAITS, Traits, measure_stream
from finetunekit.data.parallel import Progress, gather
from finetunekit.data.photo_file import check_file_size, open_photo_file, pillow_guard
from finetunekit.errors import DataError
from finetunekit.system.user_dirs import cache_dir

#: Receives a file, its SHA-256 and its pixels, in any thread.
Decoded: TypeAlias = Callable[[Path, str, Pixels], None]

FILE_NAME = "photos.sqlite"
#: Change it whenever a field or a formula changes: what was kept under another number is dropped.
VERSION = 4
RACY_NS = 2_000_000_000
MOST_WORKERS = 8
_WAIT_S = 30.0
_CHUNK = 512
_ASKED = 500  # names in one query; SQLite allows 999 in its oldest versions
_TABLES = """
CREATE TABLE IF NOT EXISTS file (
  folder BLOB, name BLOB, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, sha256 BLOB, PRIMARY KEY (folder, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS photo (sha256 BLOB PRIMARY KEY, reader TEXT, traits BLOB, grey BLOB);
CREATE TABLE IF NOT EXISTS comparison (key BLOB PRIMARY KEY, found TEXT);
"""
#: Sets of photos whose comparison is kept, those compared last.
_COMPARISONS = 200


class Measured(NamedTuple):
    """What a photo file holds: its SHA-256, hexadecimal, and one record of dtype `TRAITS`."""

    sha256: str
    traits: Traits


class _Stamp(NamedTuple):
    """What tells a changed file from an unchanged one without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Stamp:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def is_settled(self, now_ns: int) -> bool:
        """Whether a later change must show in the stamp."""
        return max(self.mtime_ns, self.ctime_ns) < now_ns - RACY_NS


class _Reading(NamedTuple):
    """One file read: `stamp` is None where it changed meanwhile, `grey` where its content was known."""

    path: Path
    measured: Measured | None
    stamp: _Stamp | None = None
    grey: NDArray[np.uint8] | None = None
    problem: str = ""


class Measurements(NamedTuple):
    """Of many files.

    Attributes:
        photos: File → what it holds.
        problems: File → what is wrong with it, one line.
        decoded: How many were decoded; the others were known.
    """

    photos: dict[Path, Measured]
    problems: dict[Path, str]
    decoded: int


def measure_photos(
    paths: Sequence[Path],
    *,
    max_pixels: int,
    known: KnownPhotos | None = None,
    decoded: Decoded | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Measurements:
    """Hash and measure files in threads; those that are known are not decoded.

    Args:
        paths: Files.
        max_pixels: A photo whose header claims more is refused.
        known: The user's cache; what is found is added. None: every file is decoded.
        decoded: Receives the pixels of every photo that is decoded, before they are dropped.
        workers: Number of threads; None: one a processor, at most 8.
        progress: Called in the calling thread with (files done, files to read).

    Returns:
        In the order of `paths`. Memory: a few hundred bytes a photo.
    """
    paths = list(dict.fromkeys(paths))
    found = known.unchanged(paths, max_pixels=max_pixels) if known else {}
    unread = [path for path in paths if path not in found]
    problems: dict[Path, str] = {}
    count = 0
    for start in range(0, len(unread), _CHUNK):
        with pillow_guard(max_pixels):
            readings, _ = gather(
                lambda path: _read(path, max_pixels, known, decoded),
                unread[start : start + _CHUNK],
                workers=workers or min(MOST_WORKERS, os.cpu_count() or 1),
                progress=progress and (lambda done, _, start=start: progress(start + done, len(unread))),  # type: ignore[misc]
            )
        if known:
            known.add(readings)
        problems |= {one.path: one.problem for one in readings if one.measured is None}
        found |= _packed({one.path: one.measured for one in readings if one.measured is not None})
        count += sum(one.grey is not None for one in readings)
    return Measurements({path: found[path] for path in paths if path in found}, problems, count)


def photo_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        DataError: If it cannot be read.
    """
    with open_photo_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, max_pixels: int, known: KnownPhotos | None, decoded: Decoded | None) -> _Reading:
    try:
        with open_photo_file(path) as file:
            stamp = _Stamp.of(os.fstat(file.fileno()))
            check_file_size(file, path, max_pixels=max_pixels)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            traits, grey = known.of_content(sha256, max_pixels=max_pixels) if known else None, None
            if traits is None:
                file.seek(0)
                traits, grey, pixels = measure_stream(file, path, max_pixels=max_pixels)
                if decoded:
                    decoded(path, sha256, pixels)
            is_same = stamp == _Stamp.of(os.fstat(file.fileno()))
    except DataError as exc:
        return _Reading(path, None, problem=str(exc))
    return _Reading(path, Measured(sha256, traits), stamp if is_same else None, grey)


class KnownPhotos:
    """Path and stamp → content → what was measured, in one SQLite file. Processes may share it; what each adds is the same."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            connection.executescript(
                "DROP TABLE IF EXISTS file; DROP TABLE IF EXISTS photo; DROP TABLE IF EXISTS comparison; "
                f"PRAGMA user_version = {VERSION}"
            )
        connection.executescript(_TABLES)

    def unchanged(self, paths: Iterable[Path], *, max_pixels: int) -> dict[Path, Measured]:
        """Those files that have not changed since they were read, and have no more pixels than allowed."""
        found: dict[Path, Measured] = {}
        query = (
            "SELECT name, size, mtime_ns, ctime_ns, sha256, traits FROM file JOIN photo USING (sha256)"
            " WHERE folder = ? AND reader = ?"
        )
        for folder, members in _by_folder(paths):
            rows = {row[0]: row[1:] for row in self._rows(query, os.fsencode(folder), _reader())}
            here = {}
            for path, name in members if rows else ():
                *stamp, sha256, record = rows.get(os.fsencode(name), (None, None))
                traits = _unpacked(record, max_pixels) if _stamp_of(path) == tuple(stamp) else None
                if traits is not None:
                    here[path] = Measured(sha256.hex(), traits)
            found |= _packed(here)
        return found

    def of_content(self, sha256: str, *, max_pixels: int) -> Traits | None:
        """What a file of this content would be measured as; None where it is not known, or has more pixels than allowed."""
        rows = self._rows("SELECT traits FROM photo WHERE sha256 = ? AND reader = ?", bytes.fromhex(sha256), _reader())
        return _unpacked(rows[0][0], max_pixels) if rows else None

    def greys(self, sha256: Sequence[str]) -> NDArray[np.uint8]:
        """The grey pictures of photos that are known, `(photos, SIDE_PX, SIDE_PX)` uint8, in the order asked for."""
        pictures = np.zeros((len(sha256), SIDE_PX, SIDE_PX), np.uint8)
        places: dict[bytes, list[int]] = {}
        for position, name in enumerate(sha256):
            places.setdefault(bytes.fromhex(name), []).append(position)
        for start in range(0, len(places), _ASKED):
            names = [*places][start : start + _ASKED]
            query = f"SELECT sha256, grey FROM photo WHERE sha256 IN ({','.join('?' * len(names))})"
            for name, grey in self._rows(query, *names):
                pictures[places[name]] = np.frombuffer(grey, np.uint8).reshape(SIDE_PX, SIDE_PX)
        return pictures

    def comparison(self, key: bytes) -> Any:
        """What `keep_comparison` kept of a set of photos; None where there is nothing."""
        rows = self._rows("SELECT found FROM comparison WHERE key = ?", key)
        return json.loads(rows[0][0]) if rows else None

    def keep_comparison(self, key: bytes, found: Any) -> None:
        """Keep what comparing a set of photos has found, plain values, so that the same set is not compared again.

        Args:
            key: Of the photos, and of what compares them.
            found: The pairs.
        """
        least = f"SELECT min(rowid) FROM (SELECT rowid FROM comparison ORDER BY rowid DESC LIMIT {_COMPARISONS})"
        with self._lock, self._connection:
            self._connection.execute("INSERT OR REPLACE INTO comparison VALUES (?, ?)", (key, json.dumps(found)))
            self._connection.execute(f"DELETE FROM comparison WHERE rowid < ({least})")

    def add(self, readings: Sequence[_Reading]) -> None:
        """Keep what was read, except the stamps of files that changed a moment before."""
        now_ns, photos, files = time.time_ns(), [], []
        for path, measured, stamp, grey, _ in readings:
            if measured is None or stamp is None:
                continue
            sha256 = bytes.fromhex(measured.sha256)
            if grey is not None:
                photos.append((sha256, _reader(), measured.traits.tobytes(), grey.tobytes()))
            if stamp.is_settled(now_ns):
                files.append((*map(os.fsencode, os.path.split(os.path.abspath(path))), *stamp, sha256))
        with self._lock, self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO photo VALUES (?, ?, ?, ?)", photos)
            self._connection.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?)", files)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()


@contextlib.contextmanager
def open_known_photos(say: Callable[[str], None]) -> Iterator[KnownPhotos]:
    """The user's cache of what is known of photos; a damaged one is made again.

    Where the cache folder cannot be written: a temporary one, and one line that says so.
    """
    path = cache_dir() / FILE_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = _opened(path)
    except (sqlite3.Error, OSError) as exc:
        say(f"warning: {path}: cannot be used ({exc}); photos are measured again.")
        known = KnownPhotos(_connected(""))  # a temporary file of SQLite's own
    try:
        yield known
    finally:
        known._connection.close()


def _opened(path: Path) -> KnownPhotos:
    try:
        return KnownPhotos(_connected(path))  # touches the tables, so that damage shows here
    except sqlite3.DatabaseError as exc:
        if isinstance(exc, sqlite3.OperationalError):  # locked, read-only, disk full: no reason to delete it
            raise
        path.unlink()
        return KnownPhotos(_connected(path))


def _connected(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _by_folder(paths: Iterable[Path]) -> Iterator[tuple[str, list[tuple[Path, str]]]]:
    """Absolute folder → its files among the paths."""
    split = sorted((*os.path.split(os.path.abspath(path)), path) for path in paths)
    for folder, members in groupby(split, key=lambda item: item[0]):
        yield folder, [(path, name) for _, name, path in members]


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        return _Stamp.of(os.stat(path))
    except OSError:
        return None  # whoever reads the file says what is wrong with it


def _packed(found: dict[Path, Measured]) -> dict[Path, Measured]:
    """The same with one array behind all records, which takes half the memory."""
    traits = np.array([one.traits for one in found.values()], TRAITS)
    return {path: Measured(one.sha256, traits[i]) for i, (path, one) in enumerate(found.items())}


def _unpacked(record: object, max_pixels: int) -> Traits | None:
    if not isinstance(record, bytes) or len(record) != TRAITS.itemsize:
        return None
    traits = np.frombuffer(record, TRAITS)[0]
    return traits if int(traits["width_px"]) * int(traits["height_px"]) <= max_pixels else None


@functools.cache
def _reader() -> str:
    """Another decoder may refuse what this one read, so its version is part of what is known."""
    return f"pillow {importlib.metadata.version('pillow')}"
