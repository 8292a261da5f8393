"""Nearest neighbours among features: the simplest thing that could work, and one of the baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.linear_probe.scaling import row_blocks
from finetunekit.system.memory import scratch_array


def nearest_labels(features: NDArray[Any], labels: NDArray[np.int64], queries: NDArray[Any]) -> NDArray[np.int64]:
    """The label of each query's nearest photo by cosine similarity, `(queries,)`.

    Args:
        features: `(photos, channels)` of the photos whose labels are known.
        labels: `(photos,)`.
        queries: `(queries, channels)`.

    Raises:
        ValueError: If there are no photos.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(features) == 0:
        raise ValueError("there are no photos to be near to")
    if len(queries) == 0:
        return labels[:0]
    # Of directions the nearest by angle is the nearest by distance, which is found block by block.
    known = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(_directions(features))
    nearest: NDArray[np.int64] = known.kneighbors(_directions(queries), return_distance=False)[:, 0]
    return labels[nearest]


def _directions(features: NDArray[Any]) -> NDArray[np.float64]:
    """Each row by its length; a row of zeros stays one."""
    unit: NDArray[np.float64] = scratch_array(features.shape)
    for rows in row_blocks(len(features)):
        x = np.asarray(features[rows], np.float64)
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        unit[rows] = x / np.where(lengths > 0, lengths, 1.0)
    return unit
