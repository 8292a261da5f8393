"""Nearest neighbours among features: the simplest thing that could work, and one of the baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.linear_probe.principal_axes import BLOCK, row_blocks
from finetunekit.system.memory import scratch_array

_CHUNK = 1024


def nearest_labels(
    features: NDArray[Any], labels: NDArray[np.int64], queries: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The label of each query's nearest photo by cosine similarity.

    Args:
        features: `(photos, channels)` of the photos whose labels are known.
        labels: `(photos,)`.
        queries: `(queries, channels)`.

    Returns:
        Labels `(queries,)` int64 and similarities `(queries,)` float64 in [-1, 1]. Of equally near photos the first one counts; a photo
        without any feature is at similarity 0 from all.

    Raises:
        ValueError: If there are no photos.
    """
    if len(features) == 0:
        raise ValueError("there are no photos to be near to")
    nearest, similarity = _nearest(_unit(features), _unit(queries))
    return labels[nearest], similarity


def _unit(features: NDArray[Any]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = scratch_array(features.shape)
    for rows in row_blocks(len(features)):
        x = np.asarray(features[rows], np.float64)
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        unit[rows] = x / np.where(lengths > 0, lengths, 1.0)
    return unit


def _nearest(unit: NDArray[np.float64], queries: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    found, similarities = [], []
    chunk = min(_CHUNK, max(1, _CHUNK * BLOCK // len(unit)))
    for start in range(0, len(queries), chunk):
        similarity = queries[start : start + chunk] @ unit.T  # (chunk, photos)
        nearest = similarity.argmax(axis=1)
        found.append(nearest)
        similarities.append(similarity[np.arange(len(similarity)), nearest])
    if not found:
        return np.zeros(0, np.int64), np.zeros(0)
    return np.concatenate(found), np.concatenate(similarities)
