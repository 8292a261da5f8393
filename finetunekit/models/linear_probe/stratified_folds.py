"""Folds: every class in its share in each, photos that belong together in the same one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.system.keyed_random import derive_keys


def stratified_folds(
    labels: NDArray[Any], folds: int, *, groups: Sequence[str] | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Deal photos into folds: the largest groups first, each to the fold that has least of its classes so far.

    Args:
        labels: `(photos,)`, integers from 0.
        folds: Wanted number; fewer where there are fewer groups.
        groups: A name for each photo; photos of one name share a fold. None: each photo by itself.
        seed: Which of equally large groups comes first.

    Returns:
        Fold of each photo, `(photos,)` int64, from 0, none empty.

    Raises:
        ValueError: If there are fewer than two folds or groups, or not one group a photo.
    """
    if groups is not None and len(groups) != len(labels):
        raise ValueError(f"groups must name one group a photo, {len(labels)}. Received: {len(groups)}")
    group = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    number = int(group.max()) + 1 if len(group) else 0
    folds = min(folds, number)
    if folds < 2:
        raise ValueError(f"leaving photos out needs at least 2 folds and 2 groups. Received: {folds} of {number}")
    counts = np.zeros((number, int(labels.max()) + 1))  # (groups, classes)
    np.add.at(counts, (group, labels), 1)
    return _deal(counts, folds, derive_keys(seed, "folds", np.arange(number)))[group]


def _deal(counts: NDArray[np.float64], folds: int, keys: NDArray[np.int64]) -> NDArray[np.int64]:
    shares = counts / counts.sum(axis=0)  # (groups, classes)
    dealt = np.zeros((folds, counts.shape[1]))
    sizes = np.zeros(folds)
    fold = np.zeros(len(counts), np.int64)
    for i in np.lexsort((keys, -counts.sum(axis=1))):
        crowding = np.round(dealt @ shares[i], 12)  # rounded, so that equal is equal
        fold[i] = np.lexsort((sizes, crowding))[0]
        dealt[fold[i]] += shares[i]
        sizes[fold[i]] += counts[i].sum()
    return fold
