"""Zip archives, unpacked into a target that counts."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from pathlib import Path

from finetunekit import DataError, open_regular
from finetunekit_builtin.names import plain
from finetunekit_builtin.unpack_target import Limits, Target, refused

ENTRY_BYTES = 1024
"""Bytes of a zip's table of contents that an entry may take on average: 46 and its name."""


def unpack_zip(archive: Path, target: Target) -> None:
    """Write the wanted files of a zip."""
    _check_contents_size(archive, target.limits)
    with open_regular(archive) as whole, zipfile.ZipFile(whole) as packed:
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
    with open_regular(archive) as stream:
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
