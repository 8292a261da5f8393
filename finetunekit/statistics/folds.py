"""Folds: every class in its share in each, photos that belong together in the same one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def stratified_folds(
    labels: NDArray[Any], folds: int, *, groups: Sequence[str] | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Deal photos into folds by scikit-learn's `StratifiedKFold`, or `StratifiedGroupKFold` where photos share a group.

    Args:
        labels: `(photos,)`, integers from 0.
        folds: Wanted number; fewer where there are fewer groups, or fewer photos in the largest class.
        groups: A name for each photo; photos of one name share a fold, and the order of the photos does not matter. None: each photo by
            itself. A group that has all photos of a class is not kept together, since the class could not be learnt without it; its photos
            are dealt in the order given.
        seed: Of the shuffling.

    Returns:
        Fold of each photo, `(photos,)` int64, from 0, none empty.

    Raises:
        ValueError: If there are fewer than two folds or groups, no class has two photos, or there is not one group a photo.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    names = np.arange(len(labels)) if groups is None else np.asarray(groups)
    if len(names) != len(labels):
        raise ValueError(f"groups must name one group a photo, {len(labels)}. Received: {len(names)}")
    names = _divided(names, labels)
    number = len(np.unique(names))
    folds = min(folds, number, int(np.bincount(labels).max(initial=0)))
    if folds < 2:
        raise ValueError(
            f"leaving photos out needs at least 2 folds, 2 groups and 2 photos of a class. Received: {len(labels)} photos, {number} groups"
        )
    order = np.argsort(names, kind="stable")
    shared = names[order] if number < len(labels) else None
    kind = StratifiedKFold if shared is None else StratifiedGroupKFold
    fold = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it is missing in some folds, as it has to be
        parts = kind(folds, shuffle=True, random_state=seed).split(order, labels[order], shared)
        for k, (_, left_out) in enumerate(parts):
            fold[order[left_out]] = k
    return np.unique(fold, return_inverse=True)[1].astype(np.int64)


def _divided(names: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Groups as they are, but for those that have all photos of a class, two or more: their photos stand alone."""
    codes = np.unique(names, return_inverse=True)[1]
    if len(codes) == 0 or int(codes.max()) + 1 == len(codes):
        return names  # every photo stands alone
    held = [np.unique(codes[labels == label]) for label in np.unique(labels) if (labels == label).sum() > 1]
    whole = [int(of[0]) for of in held if len(of) == 1]
    alone = np.isin(codes, whole)
    if not alone.any():
        return names
    return np.where(alone, codes.max() + 1 + np.arange(len(codes)), codes)
