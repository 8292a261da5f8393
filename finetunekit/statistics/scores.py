"""Everything a run says about one split, from its probabilities and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics.arrays import (
    PROBABILITY_FLOOR,
    FloatArray,
    IntArray,
    check_predictions,
    photo_brier_scores,
    photo_log_losses,
)
from finetunekit.statistics.bootstrap import DEFAULT_REPLICATES, mean_interval
from finetunekit.statistics.calibration import Calibration, measure_calibration
from finetunekit.statistics.confusion import ClassScores, Proportion, class_scores, confusion_matrix
from finetunekit.statistics.intervals import Interval
from finetunekit.statistics.macro import MacroScore, macro_scores

LOG_LOSS_BOUNDS = (0.0, float(-np.log(PROBABILITY_FLOOR)))
BRIER_BOUNDS = (0.0, 2.0)


@dataclass(frozen=True, slots=True)
class MeanScore:
    """A mean over photos.

    Attributes:
        value: The mean.
        photos: Photos it is a mean over.
        interval: Bootstrap-t over photos; see `mean_interval`.
    """

    value: float
    photos: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class TopKScore:
    """How often the true class is among the k most probable.

    Attributes:
        k: How many classes count, in [2, classes).
        score: The fraction, its count and its interval.
    """

    k: int
    score: Proportion


@dataclass(frozen=True, slots=True)
class Scores:
    """Every score of one split. `dataclasses.asdict` of it can be written as JSON.

    Attributes:
        photos: Distinct photos scored.
        num_classes: Number of classes.
        level: Confidence of every interval here.
        seed: Seed of every bootstrap here.
        replicates: Replicates of every bootstrap here.
        accuracy: Fraction of photos whose most probable class is the true one (ties: the lowest index).
        top_k: The requested top-k accuracies with k below the number of classes.
        confusion: Rows are true classes, columns predicted ones.
        classes: Scores of each class, in order of index.
        macro_f1: Mean F1 of the classes with photos.
        macro_recall: Mean recall of the classes with photos (balanced accuracy).
        log_loss: Mean of -ln(probability of the true class), in nats, probabilities clipped at 1e-15.
        brier: Mean over photos of the squared error summed over classes, in [0, 2].
        calibration: Of the most probable class's probability.
    """

    photos: int
    num_classes: int
    level: float
    seed: int
    replicates: int
    accuracy: Proportion
    top_k: tuple[TopKScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassScores, ...]
    macro_f1: MacroScore
    macro_recall: MacroScore
    log_loss: MeanScore
    brier: MeanScore
    calibration: Calibration


def summarise_predictions(
    probabilities: NDArray[Any],
    labels: NDArray[Any],
    *,
    num_classes: int,
    seed: int = 0,
    level: float = 0.95,
    replicates: int = DEFAULT_REPLICATES,
    top_ks: Sequence[int] = (2, 3, 5),
    bins: int | None = None,
) -> Scores:
    """Score predictions, each figure with its denominator and its interval.

    Args:
        probabilities: `(photos, classes)`, in [0, 1], rows summing to 1; one row a distinct photo.
        labels: `(photos,)`, integers in [0, classes).
        num_classes: Must equal the width of `probabilities`: a missing class must not pass unseen.
        seed: Seed of the bootstraps; the same seed gives the same numbers.
        level: Two-sided confidence in (0, 1).
        replicates: Bootstrap replicates, 100 or more.
        top_ks: Values of k; those outside [2, classes) are left out, as their score is the accuracy or 1.
        bins: Calibration bins; None chooses by the number of photos.

    Raises:
        ValueError: If there are no photos, or an array or a number is impossible.

    Source: each score's own docstring.
    """
    values, truth = check_predictions(probabilities, labels)
    if values.shape[1] != num_classes:
        raise ValueError(f"probabilities must have {num_classes} columns. Received: {values.shape[1]}")
    matrix = confusion_matrix(truth, values.argmax(axis=1), num_classes)
    macro_f1, macro_recall = macro_scores(matrix, level=level, replicates=replicates, seed=seed)
    return Scores(
        photos=len(truth),
        num_classes=num_classes,
        level=level,
        seed=seed,
        replicates=replicates,
        accuracy=Proportion.build(int(matrix.trace()), len(truth), level),
        top_k=top_k_scores(values, truth, top_ks, level),
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        classes=class_scores(matrix, level),
        macro_f1=macro_f1,
        macro_recall=macro_recall,
        log_loss=_mean_score(photo_log_losses(values, truth), LOG_LOSS_BOUNDS, level, replicates, seed),
        brier=_mean_score(photo_brier_scores(values, truth), BRIER_BOUNDS, level, replicates, seed),
        calibration=measure_calibration(values, truth, bins=bins, level=level, replicates=replicates, seed=seed),
    )


def top_k_scores(
    probabilities: FloatArray, labels: IntArray, top_ks: Sequence[int], level: float = 0.95
) -> tuple[TopKScore, ...]:
    """Top-k accuracies with Wilson intervals.

    Args:
        probabilities: `(photos, classes)`, in [0, 1].
        labels: `(photos,)`, int.
        top_ks: Values of k; those outside [2, classes) are left out.
        level: Two-sided confidence in (0, 1).
    """
    ranks = _true_ranks(probabilities, labels)
    wanted = sorted({k for k in top_ks if 2 <= k < probabilities.shape[1]})
    return tuple(TopKScore(k, Proportion.build(int((ranks < k).sum()), len(labels), level)) for k in wanted)


def _true_ranks(probabilities: FloatArray, labels: IntArray) -> IntArray:
    """How many classes stand before the true one, `(photos,)`; equal ones by index, as in argmax."""
    true = probabilities[np.arange(len(labels)), labels][:, None]
    is_earlier = np.arange(probabilities.shape[1])[None, :] < labels[:, None]
    ranks: IntArray = ((probabilities > true) | ((probabilities == true) & is_earlier)).sum(axis=1)
    return ranks


def _mean_score(values: FloatArray, bounds: tuple[float, float], level: float, replicates: int, seed: int) -> MeanScore:
    interval = mean_interval(values, level=level, replicates=replicates, seed=seed, bounds=bounds)
    return MeanScore(float(values.mean()), len(values), interval)
