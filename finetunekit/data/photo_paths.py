"""Photo files among the paths that a user names, their classes, and which of them a run has seen before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from finetunekit.errors import DataError, did_you_mean

_USED = ("train", "valid")
_SPLIT_FOLDERS = {"train", "training", "valid", "validation", "val", "test", "display"}


def find_photos(paths: Iterable[str | Path]) -> list[Path]:
    """Photo files among paths, folders searched.

    Raises:
        DataError: With every path that does not exist or holds no photo.
    """
    from finetunekit.data.photo_file import photo_suffixes

    found: list[Path] = []
    problems: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                p for p in path.rglob("*") if p.suffix.lower() in photo_suffixes() and not p.name.startswith(".")
            )
            found += inside
            problems += [] if inside else [f"{path}: no photos in this folder."]
        elif path.is_file():
            found.append(path)
        else:
            problems.append(f"{path}: no such file or folder.")
    if problems:
        raise DataError(problems)
    return found


def labelled_photos(folder: Path, classes: Sequence[str]) -> tuple[list[Path], list[int]]:
    """Photos of `folder/<class>/` and the index of each one's class.

    Raises:
        DataError: If a folder is not a class, or there are no photos.
    """
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    unknown = [name for name in names if name not in classes]
    if unknown and set(names) <= _SPLIT_FOLDERS:
        raise DataError(
            f"{folder}: this folder has {', '.join(f'{n}/' for n in names)}: name one of them, "
            f"such as {folder / ('test' if 'test' in names else names[0])}."
        )
    if unknown:
        raise DataError(
            [f"{folder / n}: not a class of this run ({', '.join(classes)}).{_nearest(n, classes)}" for n in unknown]
        )
    if not names:
        raise DataError(f"{folder}: no class folders. Put photos in {folder}/<class>/; classes: {', '.join(classes)}.")
    found = {name: find_photos([folder / name]) for name in names}
    return [p for name in names for p in found[name]], [classes.index(name) for name in names for _ in found[name]]


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
