"""Likely wrong labels and outliers, from features of a pretrained backbone that is trained on nothing here.

Confident learning: how many photos with one label are of another class is estimated from a probe that has not seen them; as many of them
are suspect, those with the largest margin first. Source: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in
Dataset Labels", JAIR 70, section 3.1 (confident joint) and 3.2, method 3 (prune by noise rate), the default of the library cleanlab.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.findings import Finding, exclude, photos_of, see
from finetunekit.data.index import IndexedPhoto

NEIGHBOURS = 5
#: Robust standard deviations above the median distance at which a photo lies apart.
APART = 3.5
_MAD_TO_SIGMA = 1.4826  # of a normal distribution; Rousseeuw and Croux 1993, JASA 88

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def suspect_labels(probabilities: NDArray[Any], labels: Int64) -> tuple[Int64, Int64]:
    """Photos whose label is likely wrong, the surest first.

    Args:
        probabilities: `(photos, classes)`, each row from a probe that has not seen the photo.
        labels: `(photos,)`.

    Returns:
        Positions, and the class that each is taken for; both `(suspects,)` int64.
    """
    wrong = np.rint(_wrong_labels(probabilities, labels)).astype(np.int64)
    own = probabilities[np.arange(len(labels)), labels]
    margin = np.full(len(labels), np.inf)
    taken_for = labels.copy()
    for given, of in zip(*np.nonzero(wrong), strict=True):
        members = np.flatnonzero((labels == given) & (probabilities[:, of] > own))
        margins = own[members] - probabilities[members, of]
        nearest = np.argsort(margins, kind="stable")[: wrong[given, of]]
        better = nearest[margins[nearest] < margin[members[nearest]]]
        margin[members[better]], taken_for[members[better]] = margins[better], of
    chosen = np.flatnonzero(np.isfinite(margin))
    chosen = chosen[np.argsort(margin[chosen], kind="stable")]
    return chosen.astype(np.int64), taken_for[chosen].astype(np.int64)


def _wrong_labels(probabilities: NDArray[Any], labels: Int64) -> Float64:
    """How many photos with one label are thought to be of another class, `(classes given, classes thought)`; 0 on the diagonal.

    A photo counts for the most probable of the classes that are, for it, at least as probable as they are on average for their own photos.
    Each row is brought to the number of photos with its label.
    """
    classes = probabilities.shape[1]
    own = [probabilities[labels == k, k] for k in range(classes)]
    thresholds = np.array([values.mean() if len(values) else np.inf for values in own])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    is_counted = confident.max(axis=1) >= 0
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels[is_counted], confident.argmax(axis=1)[is_counted]), 1)
    sizes = np.bincount(labels, minlength=classes)[:, np.newaxis]
    counts *= sizes / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(counts, 0)
    return counts


def neighbour_distances(features: NDArray[Any], neighbours: int = NEIGHBOURS) -> Float64:
    """Mean cosine distance of each photo to its nearest others, `(photos,)` in [0, 2].

    Source: Ramaswamy, Rastogi and Shim 2000, "Efficient algorithms for mining outliers from large data sets", SIGMOD (k-th neighbour).
    """
    from sklearn.neighbors import NearestNeighbors

    near = min(neighbours, len(features) - 1)
    distances, _ = (
        NearestNeighbors(n_neighbors=near, metric="cosine").fit(features).kneighbors()
    )  # of others than itself
    mean: Float64 = distances.mean(axis=1, dtype=np.float64)
    return mean


def far_apart(distances: Float64) -> Int64:
    """Positions of distances far above the rest, the farthest first."""
    middle = np.median(distances)
    spread = _MAD_TO_SIGMA * np.median(np.abs(distances - middle))
    chosen = np.flatnonzero(distances > middle + APART * max(spread, 1e-6))
    return chosen[np.argsort(-distances[chosen], kind="stable")].astype(np.int64)


def label_findings(
    photos: Sequence[IndexedPhoto], classes: Sequence[str], probabilities: NDArray[Any], labels: Int64
) -> Iterator[Finding]:
    """The finding on labels that are likely wrong."""
    suspects, taken_for = suspect_labels(probabilities, labels)
    if not len(suspects):
        return
    found = [
        (
            photos[i],
            classes[k],
            f"looks like {classes[k]} ({100 * probabilities[i, k]:.0f} %; {classes[labels[i]]} {100 * probabilities[i, labels[i]]:.0f} %)",
        )
        for i, k in zip(suspects, taken_for, strict=True)
    ]
    yield Finding(
        "label",
        "warning",
        f"{photos_of(len(found))} of {len(photos):,} probably labelled wrongly",
        "Look at each: move it to its class, or leave it out (--fix).",
        tuple((see(photo, words, other),) for photo, other, words in found),
        tuple(exclude(photo, f"label is probably wrong: {words}") for photo, _, words in found),
        {"suspects": len(found), "photos": len(photos)},
    )


def outlier_findings(photos: Sequence[IndexedPhoto], features: NDArray[Any]) -> Iterator[Finding]:
    """The finding on photos that are like no other one."""
    distances = neighbour_distances(features)
    chosen = far_apart(distances)
    if len(chosen):
        yield Finding(
            "outlier",
            "note",
            f"{photos_of(len(chosen))} unlike all others",
            "Check whether they belong here at all.",
            tuple(
                (see(photos[i], f"distance {distances[i]:.2f}, half of all below {np.median(distances):.2f}"),)
                for i in chosen
            ),
        )
