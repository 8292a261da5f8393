"""Photo files under a folder, for every verb: links followed once, and every file that is passed over counted and said."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from finetunekit.data.photo_file import photo_suffixes
from finetunekit.errors import DataError
from finetunekit.system.formatting import counted, escaped

#: What operating systems and file servers leave in folders; names that begin with a dot are passed over as well.
CLUTTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "@eadir", "$recycle.bin", "lost+found"})
OUR_OWN = ".finetunekit-"
"""Begins the names of files by which we know a folder that we wrote; nobody asked for those to be photos."""
HEIC_SUFFIXES = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})
NAMED = 3
DEEPEST = 100

FolderId: TypeAlias = tuple[int, int]


def some_names(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    shown = ", ".join(escaped(name) for name in names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def heic_note(files: int) -> str:
    """What to say of HEIC files that nothing here reads."""
    return f"{files} HEIC {'file' if files == 1 else 'files'} skipped: pip install 'finetunekit[heic]'"


@dataclass(frozen=True, slots=True)
class FolderContents:
    """What lies directly in a folder, by name: its folders and its photos."""

    folders: tuple[str, ...]
    photos: tuple[str, ...]


@dataclass
class Scanner:
    """Lists folders and remembers what it passed over.

    Attributes:
        suffixes: Lower-case file name endings that are photos.
        others: Names of files that are no photos.
        heic: Number of HEIC files passed over because nothing here reads them.
        clutter: Names of hidden files and folders, and of those that operating systems and file servers leave.
        repeated: Folders that lead back to one that was entered.
    """

    suffixes: frozenset[str] = field(default_factory=photo_suffixes)
    others: list[str] = field(default_factory=list)
    heic: int = 0
    clutter: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def list_folder(self, folder: str) -> FolderContents:
        """List one folder.

        Raises:
            DataError: If it cannot be listed.
        """
        folders, photos = [], []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_clutter(entry.name):
                        self.clutter += [] if entry.name.startswith(OUR_OWN) else [entry.name]
                    elif entry.is_dir():
                        folders.append(entry.name)
                    elif self._is_photo(entry):
                        photos.append(entry.name)
        except OSError as exc:
            raise DataError(
                f"{escaped(folder)}: the folder cannot be listed ({exc.strerror}). Check its path."
            ) from exc
        return FolderContents(tuple(sorted(folders)), tuple(sorted(photos)))

    def walk(self, folder: str, seen: set[FolderId], depth: int = 0) -> Iterator[str]:
        """Every photo in a folder and the folders in it, by folder, then name.

        Args:
            folder: Where to begin.
            seen: Folders not to enter; those entered are added, so that a link is followed once and never in a circle.
            depth: How far below the first folder this one lies.

        Raises:
            DataError: If a folder cannot be listed, or they lie too deep.
        """
        if depth > DEEPEST:
            raise DataError(f"{escaped(folder)[:200]}: folders are nested deeper than {DEEPEST}. Move the photos up.")
        contents = self.list_folder(folder)
        seen.add(folder_id(folder))
        yield from (os.path.join(folder, name) for name in contents.photos)
        for name in contents.folders:
            inner = os.path.join(folder, name)
            if folder_id(inner) in seen:
                self.repeated.append(inner)
            else:
                yield from self.walk(inner, seen, depth + 1)

    def notes(self) -> tuple[str, ...]:
        """One line on each kind of file that was passed over."""
        notes = []
        if self.heic:
            notes.append(heic_note(self.heic))
        if self.others:
            subject = counted(len(self.others), "file is not a photo", "files are not photos")
            notes.append(f"{subject}: {some_names(sorted(self.others))}")
        if self.clutter:
            what = counted(len(self.clutter), "hidden or system entry", "hidden or system entries")
            notes.append(f"{what} skipped: {some_names(sorted({*self.clutter}))}")
        if self.repeated:
            what = counted(len(self.repeated), "folder")
            notes.append(f"{what} skipped, read already by another path: {some_names(sorted(self.repeated))}")
        return tuple(notes)

    def _is_photo(self, entry: os.DirEntry[str]) -> bool:
        suffix = os.path.splitext(entry.name)[1].lower()
        # A link that leads nowhere is listed, so that the missing photo is reported; pipes and devices are not.
        is_file = entry.is_file() or entry.is_symlink()
        if suffix in self.suffixes and is_file:
            return True
        if suffix in HEIC_SUFFIXES:
            self.heic += 1
        else:
            self.others.append(entry.name)
        return False


def folder_id(folder: str) -> FolderId:
    """What a folder is, whatever path or link led to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def is_clutter(name: str) -> bool:
    """Whether a file or folder is hidden, or left there by an operating system or a file server."""
    return name.startswith(".") or name.lower() in CLUTTER
