"""Whether classes can be told from file properties alone: the sign that each class came from a source of its own.

A small decision tree sees sizes, dimensions, compression and metadata, and no pixel. Where it names the class of files it has not
seen better than chance, a network may learn the source instead of the subject.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.findings import Finding
from finetunekit.data.index import IndexedPhoto
from finetunekit.statistics import stratified_folds, wilson_interval
from finetunekit.types import TEST

FOLDS = 5
DEPTH = 4
FEWEST = 30
#: Least lower end of the interval above chance that is worth a warning.
ABOVE_CHANCE = 0.1
PROPERTIES = (
    "width",
    "height",
    "width / height",
    "file size",
    "bytes a pixel",
    "format",
    "mode",
    "compression",
    "progressive",
    "EXIF",
    "colour profile",
)


def check_properties(photos: Sequence[IndexedPhoto], traits: NDArray[Any], seed: int = 0) -> Iterator[Finding]:
    """Warn where the file properties of training and validation photos tell their classes; test photos stay out of it."""
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    rows = np.array([i for i, photo in enumerate(photos) if photo.split != TEST], np.int64)
    names, labels = np.unique([photos[i].label for i in rows], return_inverse=True)
    if len(names) < 2 or np.bincount(labels).min() < FOLDS or len(rows) < FEWEST:
        return
    columns, tree = _columns(traits[rows]), DecisionTreeClassifier(max_depth=DEPTH, random_state=seed)
    fold = stratified_folds(labels, FOLDS, groups=[photos[i].sha256 for i in rows], seed=seed)
    predicted = cross_val_predict(tree, columns, labels, cv=PredefinedSplit(fold))
    right = int((predicted == labels).sum())
    interval = wilson_interval(right, len(rows))
    chance = float(np.bincount(labels).max() / len(rows))
    if interval.low <= chance + ABOVE_CHANCE:
        return
    told = {
        str(name): [int(((predicted == k) & (labels == k)).sum()), int((labels == k).sum())]
        for k, name in enumerate(names)
    }
    column = tree.fit(columns, labels).tree_.feature[0]
    yield Finding(
        "properties",
        "warning",
        f"the class can be told from file properties alone: {100 * right / len(rows):.0f} % of {len(rows):,} "
        f"(95 % interval {100 * interval.low:.0f} to {100 * interval.high:.0f} %; chance {100 * chance:.0f} %)",
        f"First by {PROPERTIES[column]}. Classes may come from different sources, and a network can learn the source: "
        "test on photos from elsewhere.",
        facts={
            "right": right,
            "photos": len(rows),
            "low": interval.low,
            "high": interval.high,
            "chance": chance,
            "classes": told,
        },
    )


def _columns(traits: NDArray[Any]) -> NDArray[np.float64]:
    """`(photos, len(PROPERTIES))` float64; names of formats and modes as numbers."""
    width, height = traits["width_px"].astype(np.float64), traits["height_px"].astype(np.float64)
    size = traits["size_bytes"].astype(np.float64)
    columns = [
        width,
        height,
        width / height,
        size,
        size / (width * height),
        np.unique(traits["format"], return_inverse=True)[1],
        np.unique(traits["mode"], return_inverse=True)[1],
        traits["quantisation"],
        traits["is_progressive"],
        traits["has_exif"],
        traits["has_profile"],
    ]
    return np.stack(columns, axis=1).astype(np.float64)
