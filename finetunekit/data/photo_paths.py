"""Photo files among the paths that a user names, their classes, and which of them a run has seen before."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from finetunekit.config.own_photos import is_listed, photo_root, source_of
from finetunekit.errors import ConfigError, DataError, did_you_mean
from finetunekit.system.formatting import counted, escaped
from finetunekit.types import PhotoListing, SourceContext

_USED = ("train", "valid")
_SPLIT_FOLDERS = {"train", "training", "valid", "validation", "val", "test", "display"}


def find_photos(
    paths: Iterable[str | Path], *, options: Sequence[str] = (), say: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Photo files among paths, folders searched.

    Args:
        paths: Photo files, whatever they are called; folders; tables and archives, all of whose photos are taken.
        options: `NAME=VALUE` texts for the data sources of tables and archives.
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
        elif is_listed(path):
            found += [photo.path for photo in _list(path, options, say).photos]
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
    folder: Path,
    classes: Sequence[str],
    *,
    options: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Path], list[int]]:
    """Photos of `folder/<class>/`, or of a table or an archive, and the index of each one's class.

    A class is known by its name, else by the same name in another Unicode form.

    Args:
        folder: Holds the class folders; or a table or an archive, whose photos of all splits are taken.
        classes: Of the run.
        options: `NAME=VALUE` texts for the data source of a table or an archive.
        say: Receives a line on each thing that was passed over or read otherwise than it is written.

    Raises:
        DataError: If a folder or label is not a class, or there are no photos.
    """
    from finetunekit.data.scanning import Scanner, some_names

    if not folder.exists():
        raise DataError(f"{escaped(str(folder))}: does not exist.")
    if is_listed(folder):
        return _listed_photos(folder, classes, options, say)
    if options:
        raise ConfigError("--option: is for a table or an archive; this is a folder.")
    folder = photo_root(folder)
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
            f"note: {counted(len(top.photos), 'photo')} directly in {shown}, in no class and not used: {some_names(top.photos)}"
        )
    if others := [name for name in class_of if name != class_of[name]]:
        say(f"note: class folders written in another Unicode form (NFC, NFD) than in the run: {some_names(others)}")
    for note in scanner.notes():
        say(f"note: {note}")
    paths = [photo for photos in found.values() for photo in photos]
    return paths, [classes.index(class_of[name]) for name, photos in found.items() for _ in photos]


def _listed_photos(
    path: Path, classes: Sequence[str], options: Sequence[str], say: Callable[[str], None]
) -> tuple[list[Path], list[int]]:
    """The labelled photos of a table or an archive."""
    photos = [(photo.path, photo.label) for photo in _list(path, options, say).photos if photo.label is not None]
    class_of = {label: _class_called(label, classes) for _, label in photos}
    if unknown := sorted(label for label, known in class_of.items() if known is None):
        known_classes = ", ".join(map(escaped, classes))
        raise DataError(
            [
                f"{escaped(str(path))}: '{escaped(label)}' is not a class of this run ({known_classes}).{_nearest(label, classes)}"
                for label in unknown
            ]
        )
    if not photos:
        raise DataError(f"{escaped(str(path))}: no labelled photos.")
    return [photo for photo, _ in photos], [classes.index(class_of[label] or "") for _, label in photos]


def _list(path: Path, options: Sequence[str], say: Callable[[str], None]) -> PhotoListing:
    """What the data source of a table or an archive lists; all of it, however few there are to be split."""
    from finetunekit.data.listing import ask_source
    from finetunekit.data.profile.photo_set import choose_source
    from finetunekit.plugins.host import load_plugins
    from finetunekit.system.user_dirs import cache_dir

    host, name = load_plugins(say), source_of(path)
    can_leave_whole = "split" in host.find("data source", name, str(path)).options.model_fields
    source = choose_source(name, [*(["split=false"] if can_leave_whole else []), *options], host)
    listing = ask_source(source, SourceContext(root=path, cache_dir=cache_dir(), seed=0, say=say))
    for note in listing.notes:
        say(f"note: {note}")
    return listing


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
