"""Archives of photos unpacked where they can do no harm: zip, tar, tar.gz, tar.bz2, tar.xz.

Nothing is written outside the target, whatever the names in an archive say; a name that tries is an error for the whole archive. What
it holds is bounded before and while it is written: number of entries, bytes in all, and how much larger than the archive they are.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from finetunekit import DataError
from finetunekit_builtin.scanning import is_clutter, plain

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
CHUNK_BYTES = 2**20
FREE_BYTES = 64 * 2**20
"""Small archives of drawings may shrink a thousandfold; up to this size the ratio is not looked at."""
ENTRY_BYTES = 1024
"""Bytes of a zip's table of contents that an entry may take on average: 46 and its name."""
LARGEST_XZ_BYTES = 256 * 2**20
"""Memory for decompressing xz; `xz -9` asks for 65 MiB."""
LONGEST_HEADER_BYTES = 2**20
"""Of one tar header, extended names included."""


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold.

    Attributes:
        entries: Files and folders.
        size_bytes: Of all files unpacked.
        ratio: Size of all files unpacked over the size of the archive, beyond the first 64 MiB.
    """

    entries: int
    size_bytes: int
    ratio: float


@dataclass
class Unpacked:
    """What came of an archive.

    Attributes:
        photos: Files written.
        links: Links inside the archive, passed over.
        others: Files that are no photos, passed over.
    """

    photos: int = 0
    links: int = 0
    others: list[str] = field(default_factory=list)


@dataclass
class _Target:
    """Writes the wanted files below a folder and keeps to the limits."""

    archive: Path
    folder: Path
    limits: Limits
    is_wanted: Callable[[str], bool]
    found: Unpacked = field(default_factory=Unpacked)
    _entries: int = 0
    _size_bytes: int = 0

    def __post_init__(self) -> None:
        self._allowed_bytes = max(FREE_BYTES, self.limits.ratio * self.archive.stat().st_size)

    def enter(self, name: str) -> tuple[str, ...]:
        """Count an entry and check its name; its parts below the folder."""
        self._entries += 1
        if self._entries > self.limits.entries:
            raise refused(self.archive, f"it holds more than {self.limits.entries:,} entries", "max_entries")
        parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or ".." in parts or "\0" in name:
            raise refused(self.archive, f"the name '{plain(name)}' leads out of the folder it is unpacked to")
        return parts

    def link(self, name: str, target: str) -> None:
        """A link is never made; one that leads out is the mark of an attack."""
        inside = os.path.normpath(os.path.join(os.path.dirname(name), target))
        if os.path.isabs(target) or re.match(r"[A-Za-z]:|\\", target) or inside.split("/")[0] == "..":
            raise refused(self.archive, f"'{plain(name)}' is a link that leads out, to '{plain(target)}'")
        self.found.links += 1

    def wants(self, parts: tuple[str, ...]) -> bool:
        """Whether a file is written; clutter is passed over silently, other files are counted."""
        if not parts or any(is_clutter(part) for part in parts):
            return False
        if self.is_wanted(parts[-1]):
            return True
        self.found.others.append(parts[-1])
        return False

    def count(self, size_bytes: int) -> None:
        """Count unpacked bytes, claimed or written."""
        self._size_bytes += size_bytes
        if self._size_bytes > self.limits.size_bytes:
            raise refused(
                self.archive, f"unpacked it takes more than {self.limits.size_bytes:,} bytes", "max_unpacked_mb"
            )
        if self._size_bytes > self._allowed_bytes:
            raise refused(self.archive, f"unpacked it is more than {self.limits.ratio:g} times as large", "max_ratio")

    def write(self, parts: tuple[str, ...], stream: _Stream) -> None:
        """Write one file, counting as it comes, whatever its header claimed."""
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as file:
                while chunk := stream.read(CHUNK_BYTES):
                    self.count(len(chunk))
                    file.write(chunk)
        except FileExistsError as exc:
            raise refused(self.archive, f"it holds '{plain('/'.join(parts))}' twice") from exc
        self.found.photos += 1


def unpack(archive: Path, folder: Path, limits: Limits, is_wanted: Callable[[str], bool]) -> Unpacked:
    """Unpack the wanted files of an archive into a folder of its own.

    Args:
        archive: What kind it is, its suffix says.
        folder: An empty folder. After an error it holds a part.
        limits: What it may hold.
        is_wanted: Whether a file of this name is written.

    Returns:
        What was written and what passed over.

    Raises:
        DataError: If the archive is broken or encrypted, exceeds a limit, or holds a name or link that leads out, a device, or one
            name twice.
    """
    target = _Target(archive, folder, limits, is_wanted)
    try:
        if archive.name.lower().endswith(".zip"):
            _unpack_zip(archive, target)
        else:
            _unpack_tar(archive, target)
    except DataError:
        raise
    except Exception as exc:
        # Unpackers raise whatever a broken archive drives them into; all of it is a property of this file.
        raise _broken(archive, exc) from exc
    return target.found


def refused(archive: Path, cause: str, option: str | None = None) -> DataError:
    """One line on why an archive is not unpacked."""
    remedy = (
        f"Raise data.options.{option} if it is genuine."
        if option
        else "Take it from a source you trust, or pack it anew."
    )
    return DataError(f"{plain(archive)}: refused: {cause}. {remedy}")


def _broken(archive: Path, exc: Exception) -> DataError:
    reason = (
        (exc.strerror if isinstance(exc, OSError) else None) or " ".join(str(exc).split())[:200] or type(exc).__name__
    )
    return DataError(f"{plain(archive)}: cannot be unpacked ({plain(reason)}). Download or pack it anew.")


# ---- zip -------------------------------------------------------------------------------------------------------------------------


def _unpack_zip(archive: Path, target: _Target) -> None:
    _check_contents_size(archive, target.limits)
    with zipfile.ZipFile(archive) as packed:
        for entry in packed.infolist():
            parts = target.enter(entry.filename)
            mode = entry.external_attr >> 16
            if stat.S_ISLNK(mode):
                with packed.open(entry) as stream:
                    target.link(entry.filename, os.fsdecode(stream.read(4096)))
            elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise refused(archive, f"'{plain(entry.filename)}' is a device or a pipe")
            elif not entry.is_dir() and target.wants(parts):
                _check_readable(archive, entry)
                with packed.open(entry) as stream:
                    target.write(parts, stream)


def _check_readable(archive: Path, entry: zipfile.ZipInfo) -> None:
    if entry.flag_bits & 1:
        raise DataError(f"{plain(archive)}: is encrypted. Unpack it yourself and name the folder.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        raise DataError(
            f"{plain(archive)}: is compressed in an unusual way ({entry.compress_type}). Pack it as an ordinary zip."
        )


def _check_contents_size(archive: Path, limits: Limits) -> None:
    """Refuse a table of contents that would fill the memory; zipfile reads all of it before it gives the first entry.

    Source: APPNOTE.TXT 6.3.10, 4.3.14 (zip64 end of central directory record) and 4.3.16 (end of central directory record).
    """
    with archive.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 65_557 - 76))
        tail = stream.read()
    end = len(tail) - 22
    at = end if tail[end : end + 4] == b"PK\5\6" and tail[-2:] == b"\0\0" else tail.rfind(b"PK\5\6")
    contents_bytes = struct.unpack_from("<I", tail, at + 12)[0] if 0 <= at <= len(tail) - 22 else 0
    large = tail.rfind(b"PK\6\6")
    if contents_bytes == 0xFFFFFFFF and 0 <= large <= len(tail) - 56:
        contents_bytes = struct.unpack_from("<Q", tail, large + 40)[0]
    if min(contents_bytes, size) > limits.entries * ENTRY_BYTES:
        raise refused(archive, f"it holds more than {limits.entries:,} entries", "max_entries")


# ---- tar -------------------------------------------------------------------------------------------------------------------------


class _TarFile(io.FileIO):
    """Refuses to read a header of many megabytes at once: tarfile would hold all of it in memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > LONGEST_HEADER_BYTES + CHUNK_BYTES:
            raise tarfile.HeaderError(f"a header of {LONGEST_HEADER_BYTES:,} bytes or more")
        return super().read(size) or b""


def _unpack_tar(archive: Path, target: _Target) -> None:
    """A compressed tar is first decompressed to a file, within the limits: then no header can make it go back and forth."""
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


def _unpack_entry(packed: tarfile.TarFile, entry: tarfile.TarInfo, target: _Target) -> None:
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
    counter = _Target(archive, path.parent, limits, is_wanted=lambda name: True)
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
