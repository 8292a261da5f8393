"""What was found out about a photo file, kept in the user's cache: an unchanged file is not read a second time.

A file counts as unchanged while its path, size, time of modification and time of change (`mtime`, `ctime`) are the same. A file
changed less than two seconds before it was read is not kept: a second change within the clock's resolution would go unseen (git's
"racily clean" entries, Documentation/technical/racy-git.txt, are the same problem).
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

FILE_NAME = "photo-facts.sqlite"
RACY_NS = 2_000_000_000
WAIT_S = 5.0
_TABLE = """
CREATE TABLE IF NOT EXISTS facts (
  folder BLOB, name BLOB, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, reader TEXT,
  sha256 BLOB, width_px INTEGER, height_px INTEGER, PRIMARY KEY (folder, name)) WITHOUT ROWID
"""
_COLUMNS = "name, size, mtime_ns, ctime_ns, sha256, width_px, height_px"


class Facts(NamedTuple):
    """What reading a photo found: SHA-256 of the file, hexadecimal, and its size in pixels, the right way up."""

    sha256: str
    width_px: int
    height_px: int


class Stamp(NamedTuple):
    """What tells a changed file from an unchanged one without reading it."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """From what the operating system says."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def is_settled(self, now_ns: int) -> bool:
        """Whether a later change must show in the stamp."""
        return max(self.mtime_ns, self.ctime_ns) < now_ns - RACY_NS


@dataclass(frozen=True)
class FactsStore:
    """Facts of photo files on disk. It costs time only where it cannot be used: one warning, and every file is read.

    Attributes:
        path: The database file; made when something is kept.
        say: Receives the warning.
    """

    path: Path
    say: Callable[[str], None]

    def known(self, paths: Iterable[Path], *, max_pixels: int) -> dict[Path, Facts]:
        """Facts of those files that have not changed since they were read, and have no more pixels than allowed."""
        try:
            return self._look_up(paths, max_pixels) if self.path.is_file() else {}
        except (sqlite3.Error, OSError) as exc:
            self._warn(exc)
            return {}

    def keep(self, found: Mapping[Path, tuple[Stamp, Facts]]) -> None:
        """Keep what was found about files that were read just now, except those changed a moment before."""
        now_ns = time.time_ns()
        settled = {path: kept for path, kept in found.items() if kept[0].is_settled(now_ns)}
        try:
            if settled:
                self._write(settled)
        except (sqlite3.Error, OSError) as exc:
            self._warn(exc)

    def _look_up(self, paths: Iterable[Path], max_pixels: int) -> dict[Path, Facts]:
        found: dict[Path, Facts] = {}
        with self._connected() as database:
            for folder, members in _by_folder(paths):
                rows = database.execute(
                    f"SELECT {_COLUMNS} FROM facts WHERE folder = ? AND reader = ?", (os.fsencode(folder), _reader())
                )
                kept = {row[0]: row[1:] for row in rows}
                for path, name in members if kept else ():
                    facts = _unchanged(path, kept.get(os.fsencode(name)))
                    if facts is not None and facts.width_px * facts.height_px <= max_pixels:
                        found[path] = facts
        return found

    def _write(self, found: Mapping[Path, tuple[Stamp, Facts]]) -> None:
        rows = [
            (*map(os.fsencode, os.path.split(os.path.abspath(path))), *stamp, _reader(), *_packed(facts))
            for path, (stamp, facts) in found.items()
        ]
        with self._connected() as database:
            database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            database.commit()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=WAIT_S)) as database:
            database.execute(_TABLE)
            yield database

    def _warn(self, exc: Exception) -> None:
        self.say(f"warning: what is known of the photos is not used or kept: {self.path}: {exc}. Delete the file.")


def open_facts(cache_dir: Path, say: Callable[[str], None]) -> FactsStore:
    """The store in a cache folder; nothing is read or written yet.

    Args:
        cache_dir: The user's cache folder.
        say: Receives one warning where the store cannot be used.
    """
    return FactsStore(cache_dir / FILE_NAME, say)


def _by_folder(paths: Iterable[Path]) -> Iterator[tuple[str, list[tuple[Path, str]]]]:
    """Absolute folder → its files among the paths."""
    split = sorted((*os.path.split(os.path.abspath(path)), path) for path in paths)
    for folder, members in groupby(split, key=lambda item: item[0]):
        yield folder, [(path, name) for _, name, path in members]


def _unchanged(path: Path, row: Sequence[object] | None) -> Facts | None:
    """The facts kept in a row, if the file is still the one that was read."""
    if row is None:
        return None
    try:
        stamp = Stamp.of(os.stat(path))
    except OSError:
        return None  # whoever reads the file says what is wrong with it
    size, mtime_ns, ctime_ns, sha256, width_px, height_px = row
    if stamp != (size, mtime_ns, ctime_ns):
        return None
    if not (isinstance(sha256, bytes) and isinstance(width_px, int) and isinstance(height_px, int)):
        return None
    return Facts(sha256.hex(), width_px, height_px)


def _packed(facts: Facts) -> tuple[bytes, int, int]:
    return bytes.fromhex(facts.sha256), facts.width_px, facts.height_px


@functools.cache
def _reader() -> str:
    """Another decoder may refuse what this one read, so its version is part of what is known."""
    return f"pillow {importlib.metadata.version('pillow')}"
