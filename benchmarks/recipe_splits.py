"""Photos of a task split anew, a table for each resplit that the data source `table` reads, and means over resplits."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from finetunekit import photo_suffixes
from finetunekit.statistics import summarise_seeds
from finetunekit.system.files import write_whole

SPLITS = ("train", "valid", "test")
#: Part of each class for validation and test.
VALID_SHARE, TEST_SHARE = 0.2, 0.2


def find_photos(root: Path) -> dict[str, tuple[Path, ...]]:
    """Class → its photos, of `root/<class>/` or of `root/<split>/<class>/`, all splits together; each content once.

    Raises:
        ValueError: If there are fewer than two classes.
    """
    folders = [root / split for split in SPLITS if (root / split).is_dir()] or [root]
    found: dict[str, list[Path]] = {}
    seen: set[bytes] = set()  # a copy on both sides of a split would be a leak
    for folder in folders:
        for label in sorted(path for path in folder.iterdir() if path.is_dir()):
            found.setdefault(label.name, []).extend(_new_photos(label, seen))
    if len(found) < 2:
        raise ValueError(f"{root}: no class folders")
    return {label: tuple(paths) for label, paths in found.items()}


def _new_photos(folder: Path, seen: set[bytes]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in photo_suffixes():
            continue
        digest = hashlib.sha256(path.read_bytes()).digest()
        if digest not in seen:
            seen.add(digest)
            yield path


def split_again(
    photos: Mapping[str, Sequence[Path]], resplit: int, per_class: int | None = None
) -> dict[str, list[tuple[Path, str]]]:
    """One resplit.

    Args:
        photos: Class → its photos.
        resplit: Another number gives another split.
        per_class: Training photos of each class, a third as many for validation; None: all that are left, 60 / 20 / 20 %.

    Returns:
        Split → (photo, class). Test photos are the same with and without `per_class`.
    """
    split: dict[str, list[tuple[Path, str]]] = {name: [] for name in SPLITS}
    for label, paths in photos.items():
        order = sorted(paths, key=lambda path: hashlib.sha256(f"{resplit}\0{path}".encode()).digest())
        test, valid = round(len(order) * TEST_SHARE), round(len(order) * VALID_SHARE)
        rest = order[test:]
        if per_class is not None:
            valid = min(max(1, round(per_class / 3)), valid)
        parts = {"test": order[:test], "valid": rest[:valid], "train": rest[valid:][:per_class]}
        for name, chosen in parts.items():
            split[name] += [(path, label) for path in chosen]
    return split


def write_table(split: Mapping[str, Sequence[tuple[Path, str]]], path: Path) -> Path:
    """Write a resplit as a table; returns its path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file_name", "label", "split"))
    writer.writerows((photo, label, name) for name, photos in split.items() for photo, label in photos)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue())
    return path


def size_of(variant: str, kind: str) -> int | None:
    """`px48+per20` is 48 of kind `px` and 20 of kind `per`; None where the variant says nothing of the kind."""
    sizes = [int(part.removeprefix(kind)) for part in variant.split("+") if part.startswith(kind)]
    return sizes[0] if sizes else None


def show_mean(values: Sequence[float], digits: int) -> str:
    """Mean with its t-interval over resplits; the one value where there is one."""
    summary = summarise_seeds(values)
    if summary is None:
        return f"{values[0]:.{digits}f}"
    low, high = summary.interval.low, summary.interval.high
    return f"{summary.mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
