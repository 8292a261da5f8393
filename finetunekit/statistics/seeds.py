"""Spread over seeds: how much a score moves when only the random numbers of training change.

This is not the interval over photos. That one asks what other photos would have given the same trained
network; this one asks what other trainings would have given on the same photos. Neither contains the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetunekit.statistics.arrays import check_level, check_margin
from finetunekit.statistics.equivalence import Equivalence
from finetunekit.statistics.intervals import Interval


@dataclass(frozen=True, slots=True)
class SeedSummary:
    """One score over several seeds.

    Attributes:
        seeds: Number of seeds, 2 or more.
        mean: Mean over seeds.
        standard_deviation: Between seeds, with `seeds - 1` below the line.
        interval: t-interval for the mean over all seeds there could be, on the same photos.
    """

    seeds: int
    mean: float
    standard_deviation: float
    interval: Interval


def summarise_seeds(values: Sequence[float], level: float = 0.95) -> SeedSummary | None:
    """Mean, standard deviation and t-interval of a score over seeds.

    Args:
        values: The score of each seed, finite.
        level: Two-sided confidence in (0, 1).

    Returns:
        None with fewer than two seeds: one run has no spread, which is not a spread of zero.

    Raises:
        ValueError: If a value is not finite or the level impossible.

    Source: Student 1908, Biometrika 6(1).
    """
    check_level(level)
    scores = np.asarray(values, dtype=np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("scores of seeds must be finite")
    if len(scores) < 2:
        return None
    mean, deviation = float(scores.mean()), float(scores.std(ddof=1))
    half = _student_quantile(level, len(scores) - 1) * deviation / len(scores) ** 0.5
    interval = Interval(mean - half, mean + half, level, method="student t over seeds")
    return SeedSummary(len(scores), mean, deviation, interval)


def seed_equivalence(
    first: Sequence[float], second: Sequence[float], *, margin: float, alpha: float = 0.05
) -> Equivalence | None:
    """Whether two recipes score the same, to within a margin, over seeds that both used.

    Args:
        first: Score of each seed under the first recipe.
        second: Score of the same seeds, in the same order, under the second.
        margin: Largest difference in means that counts as none, in the unit of the score, stated beforehand.
        alpha: Level of each of the two one-sided tests.

    Returns:
        None with fewer than two seeds.

    Raises:
        ValueError: If the lengths differ or a number is impossible.

    Source: Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15(6) (two one-sided tests).
    """
    check_margin(margin)
    if len(first) != len(second):
        raise ValueError(f"both recipes need the same seeds. Received: {len(first)} and {len(second)}")
    changes = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    summary = summarise_seeds(changes.tolist(), level=1.0 - 2.0 * alpha)
    if summary is None:
        return None
    error = summary.standard_deviation / summary.seeds**0.5
    p_value = _two_one_sided_p(summary.mean, error, margin, summary.seeds - 1)
    return Equivalence.build(summary.mean, summary.interval, margin, alpha, p_value)


def _student_quantile(level: float, freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + level / 2.0))


def _two_one_sided_p(mean: float, error: float, margin: float, freedom: int) -> float:
    """The larger of the two one-sided p-values; with no spread it is 0 inside the margin, else 1."""
    from scipy.special import stdtr

    if error == 0.0:
        return 0.0 if abs(mean) < margin else 1.0
    return float(stdtr(freedom, -(margin - abs(mean)) / error))
