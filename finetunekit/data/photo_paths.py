"""Photo files among the paths that a user names, their classes, and which of them a run has seen before."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from finetunekit.errors import DataError, did_you_mean
from finetunekit.system.formatting import escaped

_USED = ("train", "valid")
_SPLIT_FOLDERS = {"train", "training", "valid", "validation", "val", "test", "display"}


def find_photos(paths: Iterable[str | Path], *, say: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Photo files among paths, folders searched.

    Args:
        paths: Files, which are taken whatever they are called, and folders.
        say: Receives a line on each kind of file that was passed over in folders.

    Raises:
        DataError: With every path that does not exist or holds no photo.
    """
    from finetunekit.data.scanning import Scanner

    found: list[Path] = []
    problems: list[str] = []
    scanner = Scanner()
    for path in map(Path, paths):
        if path.is_dir():
            inside = [Path(photo) for photo in scanner.walk(str(path), set())]
            found += inside
            problems += [] if inside else [_no_photos(path)]
        elif os.path.lexists(path):
            found.append(path)  # one that cannot be read is named with the others that cannot
        else:
            problems.append(f"{escaped(str(path))}: no such file or folder.")
    if problems:
        raise DataError(problems)
    for note in scanner.notes():
        say(f"note: {note}")
    return found


def _no_photos(folder: Path) -> str:
    from finetunekit.data.scanning import Scanner

    scanner = Scanner()
    list(scanner.walk(str(folder), set()))
    passed = "; ".join(scanner.notes())
    return f"{escaped(str(folder))}: no photos in this folder.{f' ({passed})' if passed else ''}"


def labelled_photos(
    folder: Path, classes: Sequence[str], *, say: Callable[[str], None] = lambda _: None
) -> tuple[list[Path], list[int]]:
    """Photos of `folder/<class>/` and the index of each one's class: of that name, else of the same name in another Unicode form.

    Args:
        folder: Holds the class folders.
        classes: Of the run.
        say: Receives a line on each thing that was passed over or read otherwise than it is written.

    Raises:
        DataError: If a folder is not a class, or there are no photos.
    """
    from finetunekit.data.scanning import Scanner, some_names

    scanner = Scanner()
    top = scanner.list_folder(str(folder))
    class_of = {name: label for name in top.folders if (label := _class_called(name, classes)) is not None}
    shown = escaped(str(folder))
    unknown = [name for name in top.folders if name not in class_of]
    if unknown and set(top.folders) <= _SPLIT_FOLDERS:
        raise DataError(
            f"{shown}: this folder has {', '.join(f'{n}/' for n in top.folders)}: name one of them, "
            f"such as {escaped(str(folder / ('test' if 'test' in top.folders else top.folders[0])))}."
        )
    if unknown:
        known = ", ".join(map(escaped, classes))
        raise DataError(
            [f"{escaped(str(folder / n))}: not a class of this run ({known}).{_nearest(n, classes)}" for n in unknown]
        )
    if not class_of:
        raise DataError(f"{shown}: no class folders. Put photos in {shown}/<class>/; classes: {', '.join(classes)}.")
    found = {name: [Path(photo) for photo in scanner.walk(str(folder / name), set())] for name in class_of}
    if empty := [_no_photos(folder / name) for name, photos in found.items() if not photos]:
        raise DataError(empty)
    if top.photos:
        say(
            f"note: {len(top.photos)} photos directly in {shown} are in no class and not used: {some_names(top.photos)}"
        )
    if others := [name for name in class_of if name != class_of[name]]:
        say(f"note: class folders written in another Unicode form (NFC, NFD) than in the run: {some_names(others)}")
    for note in scanner.notes():
        say(f"note: {note}")
    paths = [photo for photos in found.values() for photo in photos]
    return paths, [classes.index(class_of[name]) for name, photos in found.items() for _ in photos]


def _class_called(name: str, classes: Sequence[str]) -> str | None:
    """The class of this name; else the only one that is the same in another Unicode form."""
    if name in classes:
        return name
    alike = [label for label in classes if unicodedata.normalize("NFC", label) == unicodedata.normalize("NFC", name)]
    return alike[0] if len(alike) == 1 else None


def _nearest(name: str, classes: Sequence[str]) -> str:
    hint = did_you_mean(name, classes)
    return hint if hint.startswith(" Did") else ""  # the classes are named already


def splits_of(hashes: Sequence[str], manifest: Iterable[Mapping[str, str]]) -> list[str | None]:
    """What a run used photos for: `train`, `valid`, or None for photos that no weight and no setting was chosen on.

    Args:
        hashes: SHA-256 of each photo's file.
        manifest: Rows of the run's `photos.csv`. A file of both splits counts as `train`.
    """
    rows = sorted((row["split"], row["sha256"]) for row in manifest if row["split"] in _USED)
    split = {sha256: name for name, sha256 in reversed(rows)}
    return [split.get(sha256) for sha256 in hashes]
