"""Likely wrong labels and outliers, from features of a pretrained backbone that is trained on nothing here.

Confident learning: a photo is suspect where a probe that has not seen it is as sure of another class as it is, on average, of that class's
own photos. Source: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70, section 3.1
(confident joint, off-diagonal counts) and 3.2 (ranking by normalised margin); the method of the library cleanlab.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.audit.findings import Finding, exclude, photos_of, see
from finetunekit.audit.reading import Photo

NEIGHBOURS = 5
#: Robust standard deviations above the median distance at which a photo lies apart.
APART = 5.0
_MAD_TO_SIGMA = 1.4826  # of a normal distribution; Rousseeuw and Croux 1993, JASA 88

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def suspect_labels(probabilities: NDArray[Any], labels: Int64) -> tuple[Int64, Int64]:
    """Photos whose label is likely wrong, the surest first.

    Args:
        probabilities: `(photos, classes)`, each row from a probe that has not seen the photo.
        labels: `(photos,)`.

    Returns:
        Positions, and the class that each is confidently taken for; both `(suspects,)` int64.
    """
    classes = probabilities.shape[1]
    thresholds = np.array(
        [probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in range(classes)]
    )
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    taken_for = confident.argmax(axis=1)
    is_suspect = (confident.max(axis=1) >= 0) & (taken_for != labels)
    rows = np.arange(len(labels))
    margin = probabilities[rows, labels] - probabilities[rows, taken_for]
    chosen = np.flatnonzero(is_suspect & (margin < 0))
    chosen = chosen[np.argsort(margin[chosen], kind="stable")]
    return chosen.astype(np.int64), taken_for[chosen].astype(np.int64)


def neighbour_distances(features: NDArray[Any], neighbours: int = NEIGHBOURS) -> Float64:
    """Mean cosine distance of each photo to its nearest others, `(photos,)` in [0, 2].

    Source: Ramaswamy, Rastogi and Shim 2000, "Efficient algorithms for mining outliers from large data sets", SIGMOD (k-th neighbour).
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    near = min(neighbours, len(unit) - 1)
    distances = np.zeros(len(unit))
    for start in range(0, len(unit), 1024):
        cosines = unit[start : start + 1024] @ unit.T
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -np.inf
        distances[start : start + 1024] = 1 - np.partition(cosines, -near, axis=1)[:, -near:].mean(axis=1)
    return distances


def far_apart(distances: Float64) -> Int64:
    """Positions of distances far above the rest, the farthest first."""
    middle = np.median(distances)
    spread = _MAD_TO_SIGMA * np.median(np.abs(distances - middle))
    chosen = np.flatnonzero(distances > middle + APART * max(spread, 1e-6))
    return chosen[np.argsort(-distances[chosen], kind="stable")].astype(np.int64)


def label_findings(
    photos: Sequence[Photo], classes: Sequence[str], probabilities: NDArray[Any], labels: Int64
) -> Iterator[Finding]:
    """The finding on labels that are likely wrong."""
    suspects, taken_for = suspect_labels(probabilities, labels)
    if not len(suspects):
        return
    found = [
        (
            photos[i],
            f"looks like {classes[k]} ({probabilities[i, k]:.0%}; {classes[labels[i]]} {probabilities[i, labels[i]]:.0%})",
        )
        for i, k in zip(suspects, taken_for, strict=True)
    ]
    yield Finding(
        "label",
        "warning",
        f"{photos_of(len(found))} of {len(photos):,} probably labelled wrongly",
        "Look at each: move it to its class, or leave it out (--fix).",
        tuple((see(photo, words),) for photo, words in found),
        tuple(exclude(photo, f"label is probably wrong: {words}") for photo, words in found),
        {"suspects": len(found), "photos": len(photos)},
    )


def outlier_findings(photos: Sequence[Photo], features: NDArray[Any]) -> Iterator[Finding]:
    """The finding on photos that are like no other one."""
    distances = neighbour_distances(features)
    chosen = far_apart(distances)
    if len(chosen):
        yield Finding(
            "outlier",
            "note",
            f"{photos_of(len(chosen))} unlike all others",
            "Look whether they belong here at all.",
            tuple(
                (see(photos[i], f"distance {distances[i]:.2f}, half of all below {np.median(distances):.2f}"),)
                for i in chosen
            ),
        )
