"""Temperature scaling: one number, fitted on validation photos, that makes confidences honest and changes no
answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics.arrays import (
    FloatArray,
    IntArray,
    check_labels,
    check_predictions,
    log_probabilities,
    softmax,
)

TEMPERATURE_BOUNDS = (0.05, 20.0)
"""Range searched. A validation split without errors has its best temperature at 0, which no finite sample
supports."""


@dataclass(frozen=True, slots=True)
class TemperatureFit:
    """A fitted temperature.

    Attributes:
        temperature: Divides the logits; above 1 softens, below 1 sharpens.
        photos: Validation photos it was fitted on.
        log_loss_before: Validation log loss at temperature 1, in nats.
        log_loss_after: Validation log loss at `temperature`; on the photos it was fitted on, so no score.
        bound_hit: Which end of `TEMPERATURE_BOUNDS` stopped the search, or None. `low` means that the
            validation split has (nearly) no errors and cannot say how confident is too confident.
    """

    temperature: float
    photos: int
    log_loss_before: float
    log_loss_after: float
    bound_hit: Literal["low", "high"] | None


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> TemperatureFit:
    """Fit the temperature that minimises the log loss of validation photos.

    Args:
        logits: `(photos, classes)`, finite: logits, or log-probabilities (softmax does not see the
            difference).
        labels: `(photos,)`, integers in [0, classes). Validation, never test.

    Raises:
        ValueError: If there are no photos, or an array is impossible.

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2. The loss is convex in 1 / temperature, hence has
        one minimum.
    """
    from scipy.optimize import minimize_scalar

    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"logits must be (photos, classes) with at least one photo. Received: {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("logits must be finite; pass probabilities through log_probabilities first")
    truth = check_labels(labels, *values.shape)
    low, high = np.log(TEMPERATURE_BOUNDS)
    found = minimize_scalar(
        lambda x: _log_loss(values, truth, np.exp(x)),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-7},
    )
    ends = {"low": low, "high": high}
    losses = {"inside": float(found.fun)} | {end: _log_loss(values, truth, np.exp(x)) for end, x in ends.items()}
    return _fit(float(found.x), losses, values, truth)


def _fit(inside: float, losses: dict[str, float], values: FloatArray, truth: IntArray) -> TemperatureFit:
    low, high = TEMPERATURE_BOUNDS
    bound_hit: Literal["low", "high"] | None = None
    temperature = float(np.exp(inside))
    # The bounded search stops just short of an end; a loss no higher there means that the end is the answer.
    if losses["low"] <= losses["inside"]:
        bound_hit, temperature = "low", low
    elif losses["high"] <= losses["inside"]:
        bound_hit, temperature = "high", high
    before = _log_loss(values, truth, 1.0)
    return TemperatureFit(temperature, len(truth), before, _log_loss(values, truth, temperature), bound_hit)


def _log_loss(logits: FloatArray, labels: IntArray, temperature: float) -> float:
    scaled = logits / temperature
    top = scaled.max(axis=1, keepdims=True)
    totals = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
    return float((totals - scaled[np.arange(len(labels)), labels]).mean())


def apply_temperature(probabilities: NDArray[Any], temperature: float) -> FloatArray:
    """Soften or sharpen probabilities; the order of the classes within a photo stays.

    Args:
        probabilities: `(photos, classes)`, in [0, 1], rows summing to 1. Values below 1e-15 count as 1e-15,
            as in log loss.
        temperature: Positive; 1 changes nothing but that clip.

    Returns:
        `(photos, classes)` float64, rows summing to 1.

    Raises:
        ValueError: If the temperature is not positive, or the probabilities are impossible.

    Source: Guo et al. 2017, arXiv:1706.04599, equation 9.
    """
    if not (np.isfinite(temperature) and temperature > 0.0):
        raise ValueError(f"temperature must be positive. Received: {temperature}")
    given = np.asarray(probabilities)
    values, _ = check_predictions(given, np.zeros(len(given), dtype=np.int64))
    return softmax(log_probabilities(values) / temperature)
