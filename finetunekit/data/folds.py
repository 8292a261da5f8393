"""Cross-validation: which photos train, validate and test in each fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from finetunekit.data.index import IndexedPhoto, PhotoIndex, photo_order
from finetunekit.data.parallel import bounded
from finetunekit.data.splitting import assign, fold_targets, group_keys
from finetunekit.errors import DataError
from finetunekit.system.formatting import escaped
from finetunekit.types import DISPLAY, SPLITS, TEST, TRAIN, VALID


def fold_of_photos(index: PhotoIndex, folds: int, *, seed: int) -> dict[Path, int]:
    """The fold of each photo that trains, validates or tests: classes in equal parts, groups and copies together.

    It depends on contents, labels, groups and seed alone, not on names or on the splits the photos come with.

    Args:
        index: All photos.
        folds: Number of folds.
        seed: Another seed gives another draw.

    Returns:
        File → fold, from 1.

    Raises:
        DataError: If a fold would lack a class.
    """
    photos = sorted({p.path: p for p in index.photos if p.split != DISPLAY}.values(), key=lambda p: (p.sha256, p.name))
    labels = [photo.label for photo in photos]
    keys, _ = group_keys([[photo.group for photo in photos]], [photo.sha256 for photo in photos])
    found = assign(keys, labels, fold_targets(labels, folds), seed=seed)
    there = set(zip(labels, found, strict=True))
    lacking = [label for label in index.classes if any((label, str(fold + 1)) not in there for fold in range(folds))]
    if lacking:
        problems = [
            f"{escaped(str(index.root))}: class '{escaped(label)}' has {labels.count(label)} photos in"
            f" {len({key for key, of in zip(keys, labels, strict=True) if of == label})} groups, too few for {folds} folds."
            " Add some, or lower train.folds."
            for label in lacking
        ]
        raise DataError(bounded(problems))
    return {photo.path: int(fold) for photo, fold in zip(photos, found, strict=True)}


def choose_fold(index: PhotoIndex, fold_of: Mapping[Path, int], fold: int, folds: int) -> PhotoIndex:
    """The index of one fold: it is tested on, the next one validates, the others train.

    Args:
        index: All photos, in the splits they come with.
        fold_of: From `fold_of_photos`.
        fold: The fold to test on, from 1.
        folds: Number of folds.

    Returns:
        The same photos in other splits. Display photos stay where they are none of these; else the test photos are displayed.
    """
    valid = fold % folds + 1
    scored = {photo.path: photo for photo in index.photos if photo.split != DISPLAY}
    known = {photo.sha256 for photo in scored.values()}
    own = [photo for photo in index.photos if photo.split == DISPLAY and photo.sha256 not in known]
    moved = [
        replace(photo, split=TEST if fold_of[path] == fold else VALID if fold_of[path] == valid else TRAIN)
        for path, photo in scored.items()
    ]
    shown: list[IndexedPhoto] = own or [replace(photo, split=DISPLAY) for photo in moved if photo.split == TEST]
    photos = tuple(sorted([*moved, *shown], key=photo_order))
    assert {photo.split for photo in photos} == set(SPLITS)  # each fold has photos of each class
    return replace(index, photos=photos)
