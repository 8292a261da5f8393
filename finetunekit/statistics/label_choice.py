"""Which unlabelled photos to have labelled next: those that are uncertain, and unlike each other. Arrays in, positions out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def entropies(probabilities: NDArray[Any]) -> FloatArray:
    """How uncertain each answer is, in nats, `(photos,)`; 0 where it is certain.

    Args:
        probabilities: `(photos, classes)`, rows sum to 1.
    """
    shares = np.asarray(probabilities, np.float64)
    found: FloatArray = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    return found


def choose_uncertain_clusters(
    probabilities: NDArray[Any], features: NDArray[Any], count: int, *, seed: int
) -> IntArray:
    """The photo nearest to each centre of k-means over photos that count as much as their answers are uncertain.

    Args:
        probabilities: `(photos, classes)`, rows sum to 1.
        features: `(photos, channels)`.
        count: Photos to choose, at most as many as there are.
        seed: Another seed begins with other centres.

    Returns:
        Positions, those of the most uncertain clusters first, `(count,)`.

    Source: Prabhu et al. 2021, "Active Domain Adaptation via Clustering Uncertainty-weighted Embeddings" (CLUE), ICCV, arXiv:2010.08666,
        section 3.2, with the temperature 1.
    """
    from sklearn.cluster import KMeans

    if count >= len(features):
        return np.argsort(-entropies(probabilities), kind="stable")
    weights, values = entropies(probabilities), np.asarray(features, np.float64)
    weights = np.maximum(weights, 1e-9 * max(weights.max(), 1e-9))  # where all are certain, all count the same
    clusters = KMeans(count, n_init=1, random_state=seed).fit(values, sample_weight=weights)
    nearest, left = [], np.ones(len(values), np.bool_)
    for centre in clusters.cluster_centers_:
        distances = np.where(left, ((values - centre) ** 2).sum(axis=1), np.inf)
        nearest.append(int(distances.argmin()))
        left[nearest[-1]] = False
    of_cluster = np.bincount(clusters.labels_, weights, minlength=count)
    order = np.argsort(-of_cluster, kind="stable")
    return np.array(nearest, np.int64)[order]
