"""Signatures kept by content, in one SQLite file of the cache folder: a photo that was measured once is not decoded again."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from finetunekit.data.audit.signature import SIGNATURE, VERSION, Signature
from finetunekit.system.user_dirs import cache_dir

_LOOKED_UP = 500  # names in one query; SQLite allows 999 in its oldest versions
_WAIT_S = 30.0


class SignatureStore:
    """SHA-256 → signature. Two processes may use one file; what each adds is the same."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            connection.execute("DROP TABLE IF EXISTS signature")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("CREATE TABLE IF NOT EXISTS signature (sha256 BLOB PRIMARY KEY, record BLOB NOT NULL)")
        connection.commit()

    def known(self, sha256: Sequence[str]) -> dict[str, Signature]:
        """The signatures that are there, of those asked for."""
        found: dict[str, Signature] = {}
        for start in range(0, len(sha256), _LOOKED_UP):
            names = [bytes.fromhex(name) for name in sha256[start : start + _LOOKED_UP]]
            marks = ",".join("?" * len(names))
            rows = self._connection.execute(f"SELECT sha256, record FROM signature WHERE sha256 IN ({marks})", names)
            for name, record in rows:
                if len(record) == SIGNATURE.itemsize:
                    found[name.hex()] = np.frombuffer(record, SIGNATURE)[0]
        return found

    def add(self, signatures: dict[str, Signature]) -> None:
        """Keep signatures."""
        rows = [(bytes.fromhex(name), record.tobytes()) for name, record in signatures.items()]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO signature VALUES (?, ?)", rows)

    def greys(self, sha256: Sequence[str]) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
        """The small grey pictures of photos that are there, `(photos, SIDE_PX, SIDE_PX)` uint8, in the order asked for."""
        found = self.known(list(dict.fromkeys(sha256)))
        shape = SIGNATURE["grey"].shape
        pictures = np.zeros((len(sha256), shape[0], shape[1]), np.uint8)
        for position, name in enumerate(sha256):
            pictures[position] = found[name]["grey"]
        return pictures


@contextlib.contextmanager
def open_store(say: Callable[[str], None]) -> Iterator[SignatureStore]:
    """The user's store; a temporary one, and a line that says so, where the cache folder cannot be written.

    A damaged file is made again.
    """
    path = cache_dir() / "audit" / "signatures.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(path)
    except (sqlite3.Error, OSError) as exc:
        say(f"{path}: cannot be used ({exc}); photos are measured anew.")
        connection = sqlite3.connect("")  # a temporary file of SQLite's own
    try:
        yield SignatureStore(connection)
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return _opened(path)
    except sqlite3.DatabaseError as exc:
        if isinstance(exc, sqlite3.OperationalError):  # locked, read-only, disk full: no reason to delete it
            raise
        path.unlink()
        return _opened(path)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_S)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        SignatureStore(connection)  # touches the table, so that damage shows here
    except sqlite3.Error:
        connection.close()
        raise
    return connection
