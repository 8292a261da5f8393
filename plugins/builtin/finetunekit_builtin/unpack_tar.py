"""Tar archives, compressed or not, unpacked into a target that counts."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Self

from finetunekit import open_regular
from finetunekit_builtin.names import plain
from finetunekit_builtin.unpack_target import CHUNK_BYTES, Limits, Target, refused

LARGEST_XZ_BYTES = 256 * 2**20
"""Memory for decompressing xz; `xz -9` asks for 65 MiB."""
LONGEST_HEADER_BYTES = 32 * 2**10
"""Of one extended header; a name has 4,096 bytes at most, and tarfile's time grows with the square of the length."""
UNPACK_S, BYTES_PER_S = 10.0, 2e6
"""Processor time that an archive may take, and the bytes of it that give a second more."""
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class _Header(tarfile.TarInfo):
    """One that is not followed by an extended header of many bytes."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As tarfile reads the block that begins an entry."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED and header.size > LONGEST_HEADER_BYTES:
            raise TooLongError(f"a header of {header.size:,} bytes; allowed are {LONGEST_HEADER_BYTES:,}")
        return header


class TooLongError(Exception):
    """A header is larger, or an archive takes longer, than any needs. No tarfile.HeaderError: tarfile takes those for the end."""


class _TarFile(io.FileIO):
    """Refuses to read many megabytes at once, which tarfile would hold in memory, and to go on when the time is up."""

    def __init__(self, path: Path) -> None:
        """Open it; the time begins."""
        super().__init__(path)
        self._allowed_s = UNPACK_S + os.fstat(self.fileno()).st_size / BYTES_PER_S
        self._until_s = time.thread_time() + self._allowed_s

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > 2 * CHUNK_BYTES:
            raise TooLongError(f"a header of {2 * CHUNK_BYTES:,} bytes or more")
        if time.thread_time() > self._until_s:
            raise TooLongError(f"it takes longer than {self._allowed_s:.0f} s")
        return super().read(size) or b""


def unpack_tar(archive: Path, target: Target) -> None:
    """Write the wanted files of a tar.

    A compressed one is first decompressed to a file, within the limits: then no header can make it go back and forth.
    """
    with tempfile.TemporaryDirectory(dir=target.folder.parent, prefix=".tar-") as scratch:
        path = archive
        if not archive.name.lower().endswith(".tar"):
            path = Path(scratch) / "whole.tar"
            _decompress(archive, path, target.limits)
        with _TarFile(path) as stream, closing(_open(stream)) as packed:
            for entry in _entries(packed):
                _unpack_entry(packed, entry, target)
            stream.seek(packed.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it is cut off: no end mark")  # tarfile itself takes this for the end


def _open(stream: _TarFile) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header)


def _entries(packed: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (entry := packed.next()) is not None:
        packed.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every header it has read
        yield entry


def _unpack_entry(packed: tarfile.TarFile, entry: tarfile.TarInfo, target: Target) -> None:
    parts = target.enter(entry.name)
    if entry.issym():
        target.link(entry.name, entry.linkname)
    elif entry.islnk():
        target.link(entry.linkname, "")
    elif entry.issparse():
        raise refused(target.archive, f"'{plain(entry.name)}' is a sparse file")
    elif entry.isreg() and target.wants(parts):
        stream = packed.extractfile(entry)
        assert stream is not None  # it is None for folders and devices only
        target.write(parts, stream)
    elif not entry.isreg() and not entry.isdir():
        raise refused(target.archive, f"'{plain(entry.name)}' is a device or a pipe")


def _decompress(archive: Path, path: Path, limits: Limits) -> None:
    name = archive.name.lower()
    counter = Target(archive, path.parent, limits, is_wanted=lambda name: True)
    with open_regular(archive) as file:
        if name.endswith(("xz", "lzma")):
            counter.write((path.name,), _Xz(file))
            return
        with gzip.open(file) if name.endswith("gz") else bz2.open(file) as stream:
            counter.write((path.name,), stream)


class _Xz:
    """Decompresses xz in bounded memory: a hostile header can ask for a dictionary of gigabytes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(memlimit=LARGEST_XZ_BYTES)

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        while True:
            if self._decoder.eof:
                rest = self._decoder.unused_data.lstrip(b"\0") or self._file.read(CHUNK_BYTES).lstrip(b"\0")
                if not rest:
                    return b""
                self._decoder = lzma.LZMADecompressor(memlimit=LARGEST_XZ_BYTES)
            else:
                rest = self._file.read(CHUNK_BYTES) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not rest:
                    raise EOFError("it is cut off")
            if data := self._decoder.decompress(rest, size):
                return data
