"""Tar archives, compressed or not, unpacked into a target that counts."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

from finetunekit_builtin.scanning import plain
from finetunekit_builtin.unpack_target import CHUNK_BYTES, Limits, Target, refused

LARGEST_XZ_BYTES = 256 * 2**20
"""Memory for decompressing xz; `xz -9` asks for 65 MiB."""
LONGEST_HEADER_BYTES = 2**20
"""Of one tar header, extended names included."""


class _TarFile(io.FileIO):
    """Refuses to read a header of many megabytes at once: tarfile would hold all of it in memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > LONGEST_HEADER_BYTES + CHUNK_BYTES:
            raise tarfile.HeaderError(f"a header of {LONGEST_HEADER_BYTES:,} bytes or more")
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
        with _TarFile(path) as stream, closing(tarfile.open(fileobj=stream, mode="r:")) as packed:
            for entry in _entries(packed):
                _unpack_entry(packed, entry, target)
            stream.seek(packed.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it is cut off: no end mark")  # tarfile itself takes this for the end


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
    with archive.open("rb") as file:
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
