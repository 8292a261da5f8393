"""Scores of a run from the rows of its `predictions.csv`, so that they can be computed again from the file alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics import apply_temperature, fit_temperature, measure_calibration, summarise_predictions
from finetunekit.types import TEST, VALID


def split_arrays(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[str], split: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One split's probabilities and labels.

    Args:
        rows: Of `predictions.csv`.
        classes: Position is the class index.
        split: Which rows.

    Returns:
        Probabilities `(photos, classes)` and labels `(photos,)`.
    """
    chosen = [row for row in rows if row["split"] == split]
    number = {name: i for i, name in enumerate(classes)}
    probabilities = np.array([[float(row[f"p_{name}"]) for name in classes] for row in chosen], dtype=np.float64)
    return probabilities.reshape(-1, len(classes)), np.array([number[row["true"]] for row in chosen], dtype=np.int64)


def score_splits(rows: Sequence[Mapping[str, Any]], classes: Sequence[str], splits: Sequence[str]) -> dict[str, Any]:
    """Every score of every named split, with denominators and intervals, as plain values for `metrics.json`.

    The test split's calibration is also given after temperature scaling, fitted on validation only.
    """
    scores: dict[str, Any] = {}
    for split in splits:
        probabilities, labels = split_arrays(rows, classes, split)
        scores[split] = dataclasses.asdict(summarise_predictions(probabilities, labels, num_classes=len(classes)))
    if VALID in splits and TEST in splits:
        scores[TEST]["temperature"] = _after_temperature(rows, classes)
    return scores


def _after_temperature(rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    valid, valid_labels = split_arrays(rows, classes, VALID)
    test, test_labels = split_arrays(rows, classes, TEST)
    fit = fit_temperature(np.log(np.clip(valid, 1e-300, None)), valid_labels)
    scaled = apply_temperature(test, fit.temperature)
    return {
        "fit": dataclasses.asdict(fit),
        "calibration": dataclasses.asdict(measure_calibration(scaled, test_labels)),
    }
