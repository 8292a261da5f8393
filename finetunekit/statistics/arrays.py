"""Checks on the arrays that every score takes, and the two arrays that most scores are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PROBABILITY_FLOOR = 1e-15
"""Smallest probability whose logarithm is taken, so that one confident error costs at most 34.5 nats.

Source: the historical default `eps` of scikit-learn's `log_loss` (1e-15, up to version 1.2).
"""

SMALLEST = float(np.finfo(np.float64).tiny)
"""The smallest normal number in float64, 2.2e-308: `exp(-708)`."""

ROW_SUM_TOLERANCE = 1e-3
"""How far a row of probabilities may sum from 1: room for float32 softmax and for six printed digits."""


def check_predictions(probabilities: NDArray[Any], labels: NDArray[Any]) -> tuple[FloatArray, IntArray]:
    """Refuse arrays that no score can be computed from.

    Args:
        probabilities: `(photos, classes)`, any float dtype, in [0, 1], rows summing to 1.
        labels: `(photos,)`, integers in [0, classes).

    Returns:
        The same numbers as float64 and int64.

    Raises:
        ValueError: If there are no photos, or the shapes, the labels or the probabilities are impossible.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"probabilities must be (photos, classes) with 2 classes or more. Received: {values.shape}")
    if len(values) == 0:
        raise ValueError("no photos to score: probabilities and labels are empty")
    if not np.isfinite(values).all() or values.min() < 0.0:
        raise ValueError("probabilities must be finite and not negative")
    worst = float(np.abs(values.sum(axis=1) - 1.0).max())
    if worst > ROW_SUM_TOLERANCE:
        raise ValueError(f"each row of probabilities must sum to 1. Received a row that is off by {worst:.3g}")
    return values, check_labels(labels, *values.shape)


def check_labels(labels: NDArray[Any], photos: int, num_classes: int) -> IntArray:
    """Refuse labels that do not belong to the photos.

    Args:
        labels: `(photos,)`, integers in [0, num_classes).
        photos: Number of photos expected.
        num_classes: Number of classes.

    Returns:
        The labels as int64.

    Raises:
        ValueError: If the shape, the dtype or a value is wrong.
    """
    given = np.asarray(labels)
    if given.shape != (photos,):
        raise ValueError(f"labels must be ({photos},), one for each photo. Received: {given.shape}")
    if not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"labels must be integers. Received: {given.dtype}")
    if given.min() < 0 or given.max() >= num_classes:
        raise ValueError(f"labels must lie in [0, {num_classes}). Received: {given.min()} to {given.max()}")
    return given.astype(np.int64)


def check_level(level: float) -> None:
    """Refuse a confidence level outside (0, 1).

    Raises:
        ValueError: If `level` is a percentage or otherwise impossible.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95. Received: {level}")


def check_margin(margin: float) -> None:
    """Refuse a margin that is not a positive number.

    Raises:
        ValueError: If `margin` is zero, negative or not finite.
    """
    if not (np.isfinite(margin) and margin > 0.0):
        raise ValueError(f"margin must be a positive number, such as 0.015 for 1.5 points. Received: {margin}")


def softmax(logits: NDArray[Any]) -> FloatArray:
    """Logits `(photos, classes)` → probabilities `(photos, classes)` float64, rows sum to 1 within rounding."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def log_probabilities(probabilities: FloatArray, floor: float = PROBABILITY_FLOOR) -> FloatArray:
    """Natural logarithm of probabilities, none below a floor.

    Args:
        probabilities: `(photos, classes)`, in [0, 1].
        floor: Above 0. `SMALLEST` loses nothing of a softmax in float64.

    Returns:
        `(photos, classes)`, in [ln floor, 0]: [-34.5, 0].
    """
    logs: FloatArray = np.log(np.clip(probabilities, floor, 1.0))
    return logs


def logit_log_losses(logits: NDArray[Any], labels: IntArray) -> FloatArray:
    """Negative log-likelihood of each photo's true class, in nats, by log-sum-exp; nothing is clipped.

    Args:
        logits: `(photos, classes)`, any float dtype.
        labels: `(photos,)`, int.

    Returns:
        `(photos,)` float64, not negative within rounding.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    losses: FloatArray = log_sum_exp(shifted) - shifted[np.arange(len(labels)), labels]
    return losses


def log_sum_exp(logits: NDArray[Any]) -> FloatArray:
    """Logarithm of the sum of exponentials of each row, `(photos, classes)` → `(photos,)` float64, of any size."""
    values = logits.astype(np.float64)
    top = values.max(axis=1)
    totals: FloatArray = np.log(np.exp(values - top[:, None]).sum(axis=1)) + top
    return totals


def photo_log_losses(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Negative log-likelihood of each photo's true class, in nats.

    Args:
        probabilities: `(photos, classes)`, in [0, 1].
        labels: `(photos,)`, int.

    Returns:
        `(photos,)`, in [0, 34.5]: natural logarithm, probabilities clipped at `PROBABILITY_FLOOR`.
    """
    losses: FloatArray = -log_probabilities(probabilities[np.arange(len(labels)), labels])
    return losses


def photo_brier_scores(probabilities: FloatArray, labels: IntArray) -> FloatArray:
    """Squared distance of each photo's probabilities from its one-hot label, summed over classes.

    Args:
        probabilities: `(photos, classes)`, in [0, 1].
        labels: `(photos,)`, int.

    Returns:
        `(photos,)`, in [0, 2]. With two classes this is twice the score of the single positive class.

    Source: Brier 1950, Monthly Weather Review 78(1) (the sum over classes).
    """
    true = probabilities[np.arange(len(labels)), labels]
    scores: FloatArray = (probabilities**2).sum(axis=1) - 2.0 * true + 1.0
    return np.maximum(scores, 0.0)
