"""Data source `archive`: a zip or tar of photos, unpacked safely into the cache, then listed like folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from finetunekit import (
    HEIC_SUFFIXES,
    DataError,
    PhotoListing,
    Scanner,
    SourceContext,
    heic_note,
    open_regular,
    photo_suffixes,
    read_regular,
    some_names,
)
from finetunekit_builtin.folders import FoldersOptions, build_folders
from finetunekit_builtin.names import plain
from finetunekit_builtin.roots import check_file
from finetunekit_builtin.splits import SplitOptions, split_called
from finetunekit_builtin.unpack_target import Limits, Unpacked
from finetunekit_builtin.unpacking import ARCHIVE_SUFFIXES, unpack

WHOLE = ".whole.json"
LAYOUT = 1
"""Raise it when other files of an archive are taken, so that what was unpacked before is not used."""


class ArchiveOptions(SplitOptions):
    """Options of `archive`: fractions for an archive without split folders, and what it may hold."""

    inside: str | None = Field(
        default=None,
        description="Folder in the archive that holds the photos; null: the outermost one that is not the only entry of its folder.",
    )
    max_entries: int = Field(default=200_000, ge=1, description="Maximum number of files and folders in the archive.")
    max_unpacked_mb: int = Field(default=20_000, ge=1, description="Maximum size of all unpacked files, in megabytes.")
    max_ratio: float = Field(
        default=100.0,
        ge=1,
        description="Maximum ratio of the unpacked size to the archive's size; applies from 64 MiB.",
    )


def build_archive(options: ArchiveOptions, context: SourceContext) -> PhotoListing:
    """Unpack an archive once and list it as `folders` does.

    It is unpacked beside its place in the cache, by the hash of its content, and renamed when it is whole; later runs find it there.

    Args:
        options: Limits, and fractions where there are no split folders.
        context: `root` is the archive: .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz.

    Returns:
        Photos with the cache folder as root.

    Raises:
        DataError: If the archive cannot be unpacked safely, or its layout cannot be understood.
    """
    path = check_file(context.root, "archive", "archive", ARCHIVE_SUFFIXES)
    folder, notes = _unpacked(path, options, context)
    root = _photo_root(path, folder / "photos", options.inside)
    chosen = FoldersOptions(**options.model_dump(include=set(SplitOptions.model_fields)))
    listing = build_folders(chosen, replace(context, root=root))
    return replace(listing, notes=(*listing.notes, *notes))


def _unpacked(path: Path, options: ArchiveOptions, context: SourceContext) -> tuple[Path, tuple[str, ...]]:
    """The folder in the cache that holds `photos/`, and notes on what was passed over."""
    suffixes = photo_suffixes()
    place = context.cache_dir / "archives" / _key(path, suffixes)
    try:
        notes = _notes_of_whole(place)
        if notes is None:
            context.say(f"unpacking {plain(path.name)} into {plain(place)}")
            notes = _unpack_whole(path, place, options, suffixes)
    except OSError as exc:
        raise DataError(
            f"{plain(place)}: the cache cannot be used ({exc}). Delete this folder, or free space."
        ) from exc
    return place, tuple(notes)


def _notes_of_whole(place: Path) -> list[str] | None:
    """Notes of what was unpacked before; None where it is not there, or files of it are not there any more."""
    if not (place / WHOLE).is_file():
        return None
    try:
        known = json.loads(read_regular(place / WHOLE))
        photos, notes = int(known["photos"]), [str(note) for note in known["notes"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return notes if sum(len(files) for _, _, files in os.walk(place / "photos")) == photos else None


def _key(path: Path, suffixes: frozenset[str]) -> str:
    try:
        with open_regular(path) as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as exc:
        raise DataError(f"{plain(path)}: cannot be read ({exc.strerror or exc}). Make it readable.") from exc
    taken = hashlib.sha256(f"{LAYOUT} {sorted(suffixes)}".encode()).hexdigest()
    return f"{content}-{taken[:8]}"


def _unpack_whole(path: Path, place: Path, options: ArchiveOptions, suffixes: frozenset[str]) -> list[str]:
    limits = Limits(options.max_entries, options.max_unpacked_mb * 10**6, options.max_ratio)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=place.parent) as scratch:
        new = Path(scratch) / "new"
        (new / "photos").mkdir(parents=True)
        found = unpack(path, new / "photos", limits, lambda name: os.path.splitext(name)[1].lower() in suffixes)
        notes = _describe(found)
        (new / WHOLE).write_text(json.dumps({"photos": found.photos, "notes": notes}), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)  # what is left of it after files were deleted
        try:
            os.replace(new, place)
        except OSError:
            if _notes_of_whole(place) is None:  # else another process was first, with the same content
                raise
    return notes


def _describe(found: Unpacked) -> list[str]:
    heic = sum(os.path.splitext(name)[1].lower() in HEIC_SUFFIXES for name in found.others)
    others = sorted(name for name in found.others if os.path.splitext(name)[1].lower() not in HEIC_SUFFIXES)
    notes = [heic_note(heic)] if heic else []
    if others:
        notes.append(f"in the archive, no photos: {len(others)} ({some_names(others)})")
    if found.links:
        notes.append(f"links in the archive, not followed: {found.links}")
    return notes


def _photo_root(archive: Path, folder: Path, inside: str | None) -> Path:
    """The folder that holds splits or classes: as named, or down through folders that hold one folder and nothing else."""
    if inside is not None:
        root = folder / inside
        if not root.resolve().is_relative_to(folder.resolve()) or not root.is_dir():
            raise DataError(f"{plain(archive)}: data.options.inside: no folder '{plain(inside)}' in the archive.")
        return root
    contents = Scanner().list_folder(str(folder))
    while len(contents.folders) == 1 and not contents.photos and split_called(contents.folders[0]) is None:
        inner = Scanner().list_folder(str(folder / contents.folders[0]))
        if not inner.folders:
            break
        folder, contents = folder / contents.folders[0], inner
    return folder
