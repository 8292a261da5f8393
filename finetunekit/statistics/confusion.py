"""Scores of each class, from the confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finetunekit.statistics.arrays import IntArray
from finetunekit.statistics.intervals import Interval, wilson_interval


@dataclass(frozen=True, slots=True)
class Proportion:
    """A fraction of photos with its denominator.

    Attributes:
        value: `successes / photos`.
        successes: Photos counted.
        photos: Photos it is a fraction of, positive.
        interval: Wilson interval.
    """

    value: float
    successes: int
    photos: int
    interval: Interval

    @classmethod
    def build(cls, successes: int, photos: int, level: float) -> Proportion:
        """Attach the Wilson interval.

        Raises:
            ValueError: If the count is impossible.
        """
        return cls(successes / photos, successes, photos, wilson_interval(successes, photos, level))


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of one class. None means undefined, never zero.

    Attributes:
        index: Class index.
        support: Photos whose true class this is.
        predicted: Photos that were given this class.
        recall: Of the photos of this class, those found; None without photos.
        precision: Of the photos given this class, those that belong; None if it was never given.
        f1: Harmonic mean of the two, `2 TP / (support + predicted)`; None without photos. 0 if none was
            found.
        f1_interval: See `f1_interval`; None without photos.
    """

    index: int
    support: int
    predicted: int
    recall: Proportion | None
    precision: Proportion | None
    f1: float | None
    f1_interval: Interval | None


def confusion_matrix(labels: IntArray, predicted: IntArray, num_classes: int) -> IntArray:
    """Count photos by true and predicted class.

    Args:
        labels: `(photos,)`, in [0, num_classes).
        predicted: `(photos,)`, in [0, num_classes).
        num_classes: Number of classes.

    Returns:
        `(num_classes, num_classes)` int64: rows are true classes, columns predicted ones.
    """
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def f1_interval(found: int, support: int, predicted: int, level: float = 0.95) -> Interval:
    """Closed-form interval for a class's F1.

    `F* = TP / (TP + FP + FN)` is a proportion of the photos that involve the class, so Wilson's interval
    applies to it, and `F1 = 2 F* / (1 + F*)` carries its ends over. A bootstrap was rejected: where a class
    has no error in the sample it gives [1, 1]. Coverage at 95 % nominal, four classes, 70, 92 and 98 %
    accuracy, class sizes equal or 10:6:3:1: 89 to 99 % at 20 photos, 93.5 to 96.5 % at 160, 92.9 to 96.4 % at
    2000.

    Args:
        found: True positives.
        support: Photos of the class.
        predicted: Photos given the class.
        level: Two-sided confidence in (0, 1).

    Raises:
        ValueError: If no photo involves the class.

    Source: Hand, Christen & Kirielle 2021, Machine Learning 110 (F*); Lam, Gopal & Qian 2023,
        arXiv:2309.14621 (the interval).
    """
    star = wilson_interval(found, support + predicted - found, level)
    low, high = (2.0 * end / (1.0 + end) for end in (star.low, star.high))
    return Interval(low, high, level, method="wilson on F*")


def class_scores(matrix: IntArray, level: float = 0.95) -> tuple[ClassScores, ...]:
    """Precision, recall and F1 of every class.

    Args:
        matrix: `(classes, classes)`, rows true, columns predicted.
        level: Two-sided confidence in (0, 1).
    """
    found, support, given = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    return tuple(_one_class(i, int(found[i]), int(support[i]), int(given[i]), level) for i in range(len(matrix)))


def _one_class(index: int, found: int, support: int, given: int, level: float) -> ClassScores:
    recall = Proportion.build(found, support, level) if support else None
    precision = Proportion.build(found, given, level) if given else None
    f1 = 2.0 * found / (support + given) if support else None
    interval = f1_interval(found, support, given, level) if support else None
    return ClassScores(index, support, given, recall, precision, f1, interval)
