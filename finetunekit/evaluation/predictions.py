"""Predictions of every split, and the rows that a run keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.index import IndexedPhoto, PhotoIndex
from finetunekit.types import SPLITS


def prediction_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Header of `predictions.csv`."""
    return ("split", "path", "sha256", "true", "predicted", *(f"p_{name}" for name in classes))


def prediction_rows(
    photos: Sequence[IndexedPhoto], probabilities: Sequence[NDArray[np.float64]], classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of `predictions.csv`, one a photo; probabilities as the shortest text that reads back to the same number."""
    return [
        {
            "split": photo.split,
            "path": photo.name,
            "sha256": photo.sha256,
            "true": photo.label,
            "predicted": classes[int(row.argmax())],
            **{f"p_{name}": repr(float(p)) for name, p in zip(classes, row, strict=True)},
        }
        for photo, row in zip(photos, probabilities, strict=True)
    ]


def predict_splits(
    index: PhotoIndex, predict: Callable[[str], NDArray[np.float64]], splits: Sequence[str] = SPLITS
) -> list[dict[str, Any]]:
    """Rows of `predictions.csv`.

    Args:
        index: Every photo.
        predict: Split → probabilities of its photos, `(photos, classes)` float64; not asked where every photo of a split was predicted
            before, as display photos are by default among the test photos.
        splits: Which splits; photos of others are not looked at.
    """
    rows: list[dict[str, Any]] = []
    known: dict[str, NDArray[np.float64]] = {}  # photo content → probabilities
    for split in splits:
        photos = index.split(split)
        if not {photo.sha256 for photo in photos} <= known.keys():
            known |= {photo.sha256: row for photo, row in zip(photos, predict(split), strict=True)}
        rows += prediction_rows(photos, [known[photo.sha256] for photo in photos], index.classes)
    return rows
