"""Where archives are unpacked to: one folder, with names checked and entries and bytes counted while they come."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from finetunekit import DataError, is_clutter
from finetunekit_builtin.names import plain

CHUNK_BYTES = 2**20
FREE_BYTES = 64 * 2**20
"""Small archives of drawings may shrink a thousandfold; up to this size the ratio is not looked at."""


class Stream(Protocol):
    """Bytes as they come."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""


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
class Target:
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

    def write(self, parts: tuple[str, ...], stream: Stream) -> None:
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


def refused(archive: Path, cause: str, option: str | None = None) -> DataError:
    """One line on why an archive is not unpacked."""
    remedy = (
        f"Raise data.options.{option} if it is genuine."
        if option
        else "Take it from a source you trust, or pack it again."
    )
    return DataError(f"{plain(archive)}: refused: {cause}. {remedy}")
