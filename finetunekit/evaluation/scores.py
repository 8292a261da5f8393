"""Scores of a run from the rows of its `predictions.csv`, so that they can be computed again from the file alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics import (
    SMALLEST,
    TemperatureFit,
    fit_temperature,
    log_probabilities,
    summarise_predictions,
)

Shares = Literal["p", "uncalibrated"]


def split_arrays(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[str], split: str, shares: Shares = "p"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One split's probabilities and labels.

    Args:
        rows: Of `predictions.csv`.
        classes: Position is the class index.
        split: Which rows.
        shares: Those that are given out (`p`), or as the network gives them (`uncalibrated`).

    Returns:
        Probabilities `(photos, classes)` and labels `(photos,)`.
    """
    chosen = [row for row in rows if row["split"] == split]
    number = {name: i for i, name in enumerate(classes)}
    probabilities = np.array([[float(row[f"{shares}_{name}"]) for name in classes] for row in chosen], dtype=np.float64)
    return probabilities.reshape(-1, len(classes)), np.array([number[row["true"]] for row in chosen], dtype=np.int64)


def fit_calibration(
    uncalibrated: NDArray[np.float64], labels: NDArray[np.int64], contents: Sequence[str]
) -> dict[str, Any]:
    """The temperature by which a run divides its logits from now on, and why, as plain values.

    Args:
        uncalibrated: Probabilities of validation photos, `(photos, classes)`.
        labels: `(photos,)`.
        contents: SHA-256 of each photo: copies of one photo count once.

    Returns:
        `temperature`, the shrunken one, 1 where the photos do not tell it from 1; `fit`, what was found (`TemperatureFit`); `words`, one
        sentence.
    """
    _, first = np.unique(contents, return_index=True)
    fit = fit_temperature(log_probabilities(uncalibrated[first], SMALLEST), labels[first])
    temperature = fit.shrunken if fit.is_told else 1.0
    return {"temperature": temperature, "fit": dataclasses.asdict(fit), "words": _calibration_words(fit)}


def _calibration_words(fit: TemperatureFit) -> str:
    found = f"best fit {fit.temperature:.2f}, 95 % interval {fit.interval.low:.2f} to {fit.interval.high:.2f}"
    if fit.is_told:
        return (
            f"Probabilities are given out after dividing the logits by {fit.shrunken:.2f}, a temperature fitted on {fit.photos:,} "
            f"validation photos with caution ({found}); it changes no answer."
        )
    return (
        f"Probabilities are given out as the network computes them: {fit.photos:,} validation photos do not show that another temperature "
        f"than 1 would serve better ({found})."
    )


def score_splits(rows: Sequence[Mapping[str, Any]], classes: Sequence[str], splits: Sequence[str]) -> dict[str, Any]:
    """Every score of every named split, with denominators and intervals, as plain values for `metrics.json`.

    They are those of the probabilities that are given out; beside them, as `uncalibrated`, the three that depend on the temperature as the
    network's own probabilities have them.
    """
    scores: dict[str, Any] = {}
    for split in splits:
        given, labels = split_arrays(rows, classes, split)
        own, _ = split_arrays(rows, classes, split, "uncalibrated")
        score = partial(summarise_predictions, labels=labels, num_classes=len(classes))
        found = score(given)
        before = found if np.array_equal(own, given) else score(own)
        scores[split] = dataclasses.asdict(found)
        scores[split]["uncalibrated"] = {
            name: dataclasses.asdict(getattr(before, name)) for name in ("log_loss", "brier", "calibration")
        }
    return scores
