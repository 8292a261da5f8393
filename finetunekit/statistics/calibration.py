"""Does a confidence of 0.9 mean right nine times in ten? Calibration errors and their bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics.arrays import FloatArray, IntArray, check_level, check_predictions
from finetunekit.statistics.bootstrap import (
    DEFAULT_REPLICATES,
    MOST_UNITS,
    check_replicates,
    chunk_sizes,
    resampled_means,
)
from finetunekit.statistics.intervals import Interval, wilson_interval

_LEVELS = 1000
"""Confidences that are told apart where photos are too many to be drawn one by one."""

MAX_BINS = 15
"""Source: Guo et al. 2017, arXiv:1706.04599, section 5 (15 equal-width bins)."""

PHOTOS_PER_BIN = 20
"""Photos a bin should hold on average; below 300 photos there are fewer bins than 15, never fewer than 2.

Source: measured. With 15 bins the error of a calibrated classifier came out as 0.105 on 20 photos; with 2
    bins 0.052.
"""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Photos whose confidence is in (low, high]. None means that there are no photos.

    Attributes:
        low: Lower end of the confidence.
        high: Upper end.
        photos: Photos in the bin.
        correct: Photos in the bin that are right.
        mean_confidence: Their mean confidence.
        accuracy: `correct / photos`.
        interval: Wilson interval of the accuracy.
    """

    low: float
    high: float
    photos: int
    correct: int
    mean_confidence: float | None
    accuracy: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """A calibration error and how to read it.

    Attributes:
        value: As computed on these photos. It is biased upwards, the more so the fewer the photos.
        interval: Interval for the error that unlimited photos would show in the same bins.
        if_calibrated: What a perfectly calibrated classifier with the same confidences would show on average on this
            many photos. A `value` close to it is no evidence of miscalibration.
    """

    value: float
    interval: Interval
    if_calibrated: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of the most probable class's probability.

    Attributes:
        photos: Photos it was measured on.
        expected_error: Mean over photos of |accuracy - confidence| of their bin.
        maximum_error: Largest |accuracy - confidence| of a bin with photos; one small bin can determine it.
        bins: Equal-width bins from 0 to 1, for the reliability diagram.
    """

    photos: int
    expected_error: CalibrationError
    maximum_error: CalibrationError
    bins: tuple[ReliabilityBin, ...]


def default_bins(photos: int) -> int:
    """Bins for a number of photos: one for every 20 photos, at least 2, at most 15. 160 photos get 8."""
    return min(MAX_BINS, max(2, photos // PHOTOS_PER_BIN))


def measure_calibration(
    probabilities: NDArray[Any],
    labels: NDArray[Any],
    *,
    bins: int | None = None,
    level: float = 0.95,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
) -> Calibration:
    """Expected and maximum calibration error with intervals, and the bins behind them.

    Equal-width bins, as in Guo et al.: their edges do not depend on the data, so runs and resamples share
    them.

    The plain percentile bootstrap never covers the error of a calibrated classifier, as resampling adds to a
    bias that is already there. Here the upper end is the bootstrap's, less its bias; the lower end is 0
    unless a calibrated classifier of the same confidences would rarely (2.5 %) show as much, and else the
    bootstrap's, less twice its bias. Measured for the expected error, 95 % nominal, classifiers of 82 %
    (overconfident), 91 % (calibrated) and 97 % accuracy (underconfident): 98 to 99 % at 20 photos, 92 to 98 %
    at 160, 95 to 96 % at 2000; for the maximum error 75 to 99, 98 to 100 and 98 to 99 %. With hardly an error
    to see (over 99.9 % accuracy) the first covers 55 % at 20 photos, 73 % at 160.

    Args:
        probabilities: `(photos, classes)`, in [0, 1], rows summing to 1.
        labels: `(photos,)`, integers in [0, classes).
        bins: Number of bins; None takes `default_bins`.
        level: Two-sided confidence in (0, 1).
        replicates: 100 or more.
        seed: Seed of the resamples.

    Raises:
        ValueError: If there are no photos, or an array or a number is impossible.

    Source: Naeini et al. 2015, AAAI (both errors); Guo et al. 2017, arXiv:1706.04599 (equal width); Broecker
        & Smith 2007, Weather and Forecasting 22(3) (resampling under calibration).
    """
    values, truth = check_predictions(probabilities, labels)
    check_level(level)
    check_replicates(replicates)
    number = default_bins(len(truth)) if bins is None else bins
    if number < 1:
        raise ValueError(f"bins must be 1 or more. Received: {bins}")
    confidence, right = values.max(axis=1), values.argmax(axis=1) == truth
    members = _members(confidence, number)  # (photos, bins)
    gaps = np.concatenate([members * (confidence - right)[:, None], members], axis=1)
    seen = _errors(gaps.mean(axis=0)[None])[0]  # (2,): expected, maximum
    again = _errors(resampled_means(gaps, replicates=replicates, seed=seed))  # (replicates, 2)
    null = _null_errors(confidence, members, replicates, seed + 1)  # (replicates, 2)
    expected, maximum = (_error(float(seen[i]), again[:, i], null[:, i], level) for i in range(2))
    return Calibration(len(truth), expected, maximum, _reliability_bins(confidence, right, members, level))


def _members(confidence: FloatArray, bins: int) -> FloatArray:
    """Which bin a photo belongs to, one-hot, `(photos, bins)`; bins are open below and closed above."""
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    members = np.zeros((len(confidence), bins))
    members[np.arange(len(confidence)), index] = 1.0
    return members


def _errors(means: FloatArray) -> FloatArray:
    """Expected and maximum error, `(replicates, 2)`, from mean gaps and shares, `(replicates, 2 * bins)`."""
    gaps, shares = np.split(np.abs(means), 2, axis=1)
    per_bin = np.divide(gaps, shares, out=np.zeros_like(gaps), where=shares > 0.0)
    return np.stack([gaps.sum(axis=1), per_bin.max(axis=1)], axis=1)


def _null_errors(confidence: FloatArray, members: FloatArray, replicates: int, seed: int) -> FloatArray:
    """Errors, `(replicates, 2)`, where each photo is right with the probability its confidence says."""
    generator, photos = np.random.default_rng(seed), len(confidence)
    shares = members.mean(axis=0)
    if photos > MOST_UNITS:
        confidence, members, counts = _by_level(confidence, members)
    parts = []
    for size in chunk_sizes(len(confidence), replicates):
        if photos > MOST_UNITS:
            missed = counts * confidence - generator.binomial(counts, confidence, (size, len(counts)))
        else:
            missed = confidence - (generator.random((size, photos)) < confidence)
        gaps = missed @ members / photos
        parts.append(_errors(np.concatenate([gaps, np.broadcast_to(shares, gaps.shape)], axis=1)))
    return np.concatenate(parts)


def _by_level(confidence: FloatArray, members: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
    """Photos of one bin and nearly one confidence together: their mean confidence, their bin, one-hot, and how many they are."""
    bins = members.shape[1]
    level = np.floor(confidence * _LEVELS).astype(np.int64) * bins + members.argmax(axis=1)
    kinds, kind, counts = np.unique(level, return_inverse=True, return_counts=True)
    return np.bincount(kind, confidence) / counts, np.eye(bins)[kinds % bins], counts


def _error(seen: float, again: FloatArray, null: FloatArray, level: float) -> CalibrationError:
    """Bias-reduced bootstrap interval whose lower end is 0 where calibration is not refuted."""
    tail = (1.0 - level) / 2.0
    bias = float(again.mean()) - seen
    low, high = np.quantile(again, [tail, 1.0 - tail])
    is_refuted = seen > float(np.quantile(null, 1.0 - tail))
    lower = max(0.0, float(low) - 2.0 * bias) if is_refuted else 0.0
    upper = min(1.0, max(float(high) - bias, seen))
    interval = Interval(min(lower, seen), upper, level, method="bias-reduced bootstrap over photos")
    return CalibrationError(seen, interval, float(null.mean()))


def _reliability_bins(
    confidence: FloatArray, right: NDArray[np.bool_], members: FloatArray, level: float
) -> tuple[ReliabilityBin, ...]:
    edges = np.linspace(0.0, 1.0, members.shape[1] + 1)
    photos, correct = members.sum(axis=0), right @ members
    means = np.divide(confidence @ members, photos, out=np.zeros_like(photos), where=photos > 0.0)
    return tuple(
        _reliability_bin(
            (float(edges[i]), float(edges[i + 1])), int(photos[i]), int(correct[i]), float(means[i]), level
        )
        for i in range(len(photos))
    )


def _reliability_bin(
    edges: tuple[float, float], photos: int, correct: int, mean_confidence: float, level: float
) -> ReliabilityBin:
    if photos == 0:
        return ReliabilityBin(*edges, 0, 0, None, None, None)
    interval = wilson_interval(correct, photos, level)
    return ReliabilityBin(*edges, photos, correct, mean_confidence, correct / photos, interval)
