"""Whether classes can be told from file properties alone: the sign that each class came from a source of its own.

A small decision tree sees sizes, dimensions, compression and metadata, and no pixel. Where it names the class of files it has not
seen better than chance, a network may learn the source instead of the subject.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.findings import Finding
from finetunekit.data.index import IndexedPhoto
from finetunekit.statistics import wilson_interval
from finetunekit.system.keyed_random import derive_keys
from finetunekit.types import TEST

FOLDS = 5
DEPTH = 4
FEWEST = 30
BINS = 16
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

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Node:
    """Where `column` is given: left below `cut`, right from it on. Else a leaf that says `label`."""

    label: int
    column: int = -1
    cut: int = 0
    left: _Node | None = None
    right: _Node | None = None


def check_properties(photos: Sequence[IndexedPhoto], traits: NDArray[Any], seed: int = 0) -> Iterator[Finding]:
    """Warn where the file properties of training and validation photos tell their classes; test photos stay out of it."""
    rows = np.array([i for i, photo in enumerate(photos) if photo.split != TEST], np.int64)
    names, labels = np.unique([photos[i].label for i in rows], return_inverse=True)
    if len(names) < 2 or np.bincount(labels).min() < FOLDS or len(rows) < FEWEST:
        return
    groups = [photos[i].sha256 for i in rows]
    predicted = _cross_validated(_binned(_columns(traits[rows])), labels, len(names), _folds(groups, seed))
    right = int((predicted == labels).sum())
    interval = wilson_interval(right, len(rows))
    chance = float(np.bincount(labels).max() / len(rows))
    if interval.low <= chance + ABOVE_CHANCE:
        return
    told = {
        str(name): [int(((predicted == k) & (labels == k)).sum()), int((labels == k).sum())]
        for k, name in enumerate(names)
    }
    column = _grow(_binned(_columns(traits[rows])), labels, len(names), DEPTH).column
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


def _binned(columns: NDArray[np.float64]) -> Int64:
    """Each column cut at its quantiles into at most `BINS` numbers from 0."""
    binned = np.zeros(columns.shape, np.int64)
    for i, column in enumerate(columns.T):
        cuts = np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1], method="nearest"))
        binned[:, i] = np.searchsorted(cuts, column, side="right")
    return binned


def _folds(groups: Sequence[str], seed: int) -> Int64:
    """A fold for each photo; files of one content are in one fold, whatever order or folders they come in."""
    numbers = {name: i for i, name in enumerate(sorted(set(groups)))}
    keys = derive_keys(seed, "audit properties", np.arange(len(numbers), dtype=np.int64))
    fold = np.argsort(np.argsort(keys)) % FOLDS
    return np.array([fold[numbers[name]] for name in groups], np.int64)


def _cross_validated(binned: Int64, labels: Int64, classes: int, fold: Int64) -> Int64:
    predicted = np.zeros_like(labels)
    for k in range(FOLDS):
        tree = _grow(binned[fold != k], labels[fold != k], classes, DEPTH)
        predicted[fold == k] = [_answer(tree, row) for row in binned[fold == k]]
    return predicted


def _grow(binned: Int64, labels: Int64, classes: int, depth: int) -> _Node:
    """A tree of binary cuts, each with the least Gini impurity. Source: Breiman et al. 1984, Classification and Regression Trees."""
    label = int(np.bincount(labels, minlength=classes).argmax())
    cut = _best_cut(binned, labels, classes) if depth and len(set(labels.tolist())) > 1 else None
    if cut is None:
        return _Node(label)
    column, at = cut
    is_left = binned[:, column] < at
    return _Node(
        label,
        column,
        at,
        _grow(binned[is_left], labels[is_left], classes, depth - 1),
        _grow(binned[~is_left], labels[~is_left], classes, depth - 1),
    )


def _best_cut(binned: Int64, labels: Int64, classes: int) -> tuple[int, int] | None:
    best, found = 1e-9, None
    whole = np.bincount(labels, minlength=classes)
    impurity = _spread(whole[np.newaxis])[0]
    for column in range(binned.shape[1]):
        counts = np.zeros((BINS, classes), np.int64)
        np.add.at(counts, (binned[:, column], labels), 1)
        below = counts.cumsum(axis=0)[:-1]  # below[i]: photos in bins 0 … i
        gain = impurity - _spread(below) - _spread(whole - below)
        at = int(gain.argmax())
        if gain[at] > best:
            best, found = float(gain[at]), (column, at + 1)
    return found


def _spread(counts: Int64) -> NDArray[np.float64]:
    """Gini impurity times photos, of each row of counts `(rows, classes)`."""
    photos = counts.sum(axis=1)
    spread: NDArray[np.float64] = photos - (counts.astype(np.float64) ** 2).sum(axis=1) / np.maximum(photos, 1)
    return spread


def _answer(tree: _Node, row: Int64) -> int:
    while tree.left is not None and tree.right is not None:
        tree = tree.left if row[tree.column] < tree.cut else tree.right
    return tree.label
