"""Predictions of every split, and the rows that a run keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.index import IndexedPhoto, PhotoIndex
from finetunekit.statistics import apply_temperature
from finetunekit.types import DISPLAY, SPLITS


def prediction_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """Header of `predictions.csv`."""
    shares = [f"{prefix}_{name}" for prefix in ("p", "uncalibrated") for name in classes]
    return ("split", "path", "sha256", "true", "predicted", *shares)


def prediction_rows(
    photos: Sequence[IndexedPhoto], uncalibrated: NDArray[np.float64], classes: Sequence[str], temperature: float
) -> list[dict[str, Any]]:
    """Rows of `predictions.csv`, one a photo; probabilities as the shortest text that reads back to the same number.

    Args:
        photos: At least one.
        uncalibrated: Probabilities as the network gives them, `(photos, classes)`.
        classes: Position is the class index.
        temperature: What makes of them those that are given out.
    """
    calibrated = apply_temperature(uncalibrated, temperature)
    return [
        {
            "split": photo.split,
            "path": photo.name,
            "sha256": photo.sha256,
            "true": photo.label,
            "predicted": classes[int(own.argmax())],
            **_shares("p", classes, given),
            **_shares("uncalibrated", classes, own),
        }
        for photo, own, given in zip(photos, uncalibrated, calibrated, strict=True)
    ]


def _shares(prefix: str, classes: Sequence[str], row: NDArray[np.float64]) -> dict[str, str]:
    return {f"{prefix}_{name}": repr(float(share)) for name, share in zip(classes, row, strict=True)}


def predict_splits(
    index: PhotoIndex, predict: Callable[[str], NDArray[np.float64]], splits: Sequence[str] = SPLITS
) -> Mapping[str, NDArray[np.float64]]:
    """Probabilities as the network gives them, `(photos, classes)` of each split that has photos, in the order of the index.

    Args:
        index: Every photo.
        predict: Split → probabilities of its photos, `(photos, classes)` float64; not asked where every display photo was predicted before,
            as they are by default among the test photos.
        splits: Which splits; photos of others are not looked at.
    """
    known: dict[str, NDArray[np.float64]] = {}  # photo content → probabilities
    found: dict[str, NDArray[np.float64]] = {}
    for split in splits:
        photos = index.split(split)
        if split != DISPLAY or not {photo.sha256 for photo in photos} <= known.keys():
            known |= {photo.sha256: row for photo, row in zip(photos, predict(split), strict=True)}
        if photos:
            found[split] = np.stack([known[photo.sha256] for photo in photos])
    return found
