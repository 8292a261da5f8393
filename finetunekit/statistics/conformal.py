"""Split conformal prediction: sets of classes that hold the true one at least as often as was asked, and p-values.

Everything follows from one fact: among a new photo and photos like it that the network was not fitted on, the score of the new one is
equally likely to have any rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics.arrays import FloatArray, check_level, check_predictions
from finetunekit.statistics.intervals import Interval


@dataclass(frozen=True, slots=True)
class ClassSets:
    """A rule that makes sets of classes from probabilities.

    A class is in a photo's set where its probability is at least 1 minus the threshold: the sets with the least classes on average of all
    that keep a promise (Sadinle et al. 2019). A set may be empty.

    Attributes:
        coverage: Share of photos whose set holds the true class that was asked for, in (0, 1).
        is_per_class: The promise holds for each class by itself, not over all photos only.
        photos: Photos that each class's threshold comes from, one number a class; all of them where not `is_per_class`.
        thresholds: One a class: the largest `1 - probability` that is in the set; infinity where the photos are too few to promise
            anything, so that the class is in every set.
    """

    coverage: float
    is_per_class: bool
    photos: tuple[int, ...]
    thresholds: tuple[float, ...]

    def members(self, probabilities: NDArray[Any]) -> NDArray[np.bool_]:
        """Which classes are in each photo's set, `(photos, classes)`; probabilities as those that the rule was made from."""
        found: NDArray[np.bool_] = 1.0 - np.asarray(probabilities, np.float64) <= np.array(self.thresholds)
        return found


def fit_class_sets(
    probabilities: NDArray[Any], labels: NDArray[Any], coverage: float, *, is_per_class: bool = False
) -> ClassSets:
    """Find the thresholds on photos that the network was not fitted on.

    The guarantee: over such photos and a new one like them, in whatever order they might have come, the set holds the true class with a
    probability of at least `coverage`, and, where no scores are equal, of at most `coverage + 1 / (photos + 1)`. With `is_per_class` the
    same holds among the photos of each class.

    Args:
        probabilities: `(photos, classes)`, in [0, 1], rows summing to 1. They must not have been changed by anything that was fitted on
            these photos, such as a temperature.
        labels: `(photos,)`, integers in [0, classes).
        coverage: In (0, 1).
        is_per_class: One threshold a class, from its own photos.

    Raises:
        ValueError: If there are no photos, or an array or the coverage is impossible.

    Source: Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World, chapters 2 and 4 (Mondrian: per class); the score is
        that of Sadinle, Lei & Wasserman 2019, JASA 114(525), arXiv:1609.00451 (least ambiguous sets); finite-sample quantile as in
        Angelopoulos & Bates 2021, arXiv:2107.07511, section 1.
    """
    values, truth = check_predictions(probabilities, labels)
    classes = values.shape[1]
    scores = 1.0 - values[np.arange(len(truth)), truth]
    if not is_per_class:
        return ClassSets(coverage, False, (len(truth),) * classes, (conformal_threshold(scores, coverage),) * classes)
    own = [scores[truth == k] for k in range(classes)]
    thresholds = tuple(conformal_threshold(part, coverage) for part in own)
    return ClassSets(coverage, True, tuple(map(len, own)), thresholds)


def conformal_rank(photos: int, coverage: float) -> int:
    """Which of the scores in rising order is the threshold, from 1: `ceil((photos + 1) · coverage)`; above `photos`: none is.

    Raises:
        ValueError: If the coverage lies outside (0, 1).
    """
    check_level(coverage)
    return math.ceil((photos + 1) * Fraction(str(coverage)))  # as written: 0.9 is nine tenths


def conformal_threshold(scores: FloatArray, coverage: float) -> float:
    """The score `(photos,)` at `conformal_rank`; infinity where there are too few."""
    rank = conformal_rank(len(scores), coverage)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def photos_for_coverage(coverage: float) -> int:
    """The least number of photos by which a coverage can be promised: 9 for 0.9, 19 for 0.95, 99 for 0.99."""
    share = Fraction(str(coverage))
    check_level(coverage)
    return math.ceil(share / (1 - share))


def coverage_spread(photos: int, coverage: float, level: float = 0.95) -> Interval:
    """Between what the coverage of one rule lies, that of the photos at hand: the promise holds on average over such photos.

    Args:
        photos: That the threshold comes from, at least `photos_for_coverage`.
        coverage: Asked for.
        level: Share of such sets of photos for which it lies between.

    Source: Vovk 2012, Conditional validity of inductive conformal predictors, arXiv:1209.2673: with scores that are all different it is
        Beta(rank, photos + 1 - rank).
    """
    from scipy.stats import beta

    check_level(level)
    rank = conformal_rank(photos, coverage)
    if rank > photos:
        return Interval(1.0, 1.0, level, method="beta")
    low, high = beta.ppf([(1 - level) / 2, (1 + level) / 2], rank, photos + 1 - rank)
    return Interval(float(low), float(high), level, method="beta")


def conformal_p_values(known: NDArray[Any], scores: NDArray[Any]) -> FloatArray:
    """How rarely a photo like the known ones has a score that is at least as large.

    Args:
        known: Scores of photos that nothing was fitted on, `(photos,)`, at least one; larger is stranger.
        scores: Of new photos, `(new,)`.

    Returns:
        `(new,)` float64, in [1 / (photos + 1), 1]: of new photos like the known ones, a share of at most p has a p-value of at most p.

    Raises:
        ValueError: If there is no known score.

    Source: Vovk, Gammerman & Shafer 2005, section 2.2; Bates et al. 2023, Testing for outliers with conformal p-values, Annals of
        Statistics 51(1), arXiv:2104.08279, equation 3.
    """
    ordered = np.sort(np.asarray(known, np.float64))
    if len(ordered) == 0:
        raise ValueError("p-values need at least one known score")
    at_least = len(ordered) - np.searchsorted(ordered, np.asarray(scores, np.float64), side="left")
    p_values: FloatArray = (1.0 + at_least.astype(np.float64)) / (len(ordered) + 1.0)
    return p_values
