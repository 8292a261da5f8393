"""Do two count as equal? Two one-sided tests against a margin stated beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics.arrays import PROBABILITY_FLOOR, check_margin
from finetunekit.statistics.bootstrap import DEFAULT_REPLICATES, mean_interval
from finetunekit.statistics.intervals import Interval, check_changes, paired_score, tango_interval

CHANGE_BOUNDS = (float(np.log(PROBABILITY_FLOOR)), -float(np.log(PROBABILITY_FLOOR)))
"""How far one photo's log loss can change, in nats: plus or minus 34.5, by the clip of probabilities at
1e-15."""


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Two one-sided tests of "the two differ by less than the margin".

    Attributes:
        difference: Second minus first, in the unit of the score.
        interval: For the difference, at level `1 - 2 * alpha`.
        margin: Largest difference that counts as none, stated beforehand, in the unit of the score.
        alpha: Level of each one-sided test.
        p_value: The larger of the two one-sided p-values; None where the method gives an interval only.
        is_equivalent: Whether the whole interval lies strictly inside plus or minus the margin.
    """

    difference: float
    interval: Interval
    margin: float
    alpha: float
    p_value: float | None
    is_equivalent: bool

    @classmethod
    def build(
        cls, difference: float, interval: Interval, margin: float, alpha: float, p_value: float | None
    ) -> Equivalence:
        """Decide by the interval: equivalent if all of it lies inside the margin.

        Source: Schuirmann 1987, J. Pharmacokinetics and Biopharmaceutics 15(6).
        """
        is_equivalent = -margin < interval.low and interval.high < margin
        return cls(difference, interval, margin, alpha, p_value, is_equivalent)


def accuracy_equivalence(gained: int, lost: int, photos: int, *, margin: float, alpha: float = 0.05) -> Equivalence:
    """Whether two runs on the same photos are equally accurate to within a margin.

    Two one-sided score tests, by Tango's interval at level `1 - 2 * alpha`. Measured chance of a false
    "equivalent" where the true difference is the margin (1.5, 3, 5 and 10 points; 1 to 4 times as many photos
    changing sides; 5 % nominal): at most 0 at 20 photos (it never says so), 5.6 % at 160, 6.0 % at 2000 (5 %
    within the error of 1500 trials). A test by the paired bootstrap says "equivalent" whenever no photo
    changed sides, on however few photos. Even then a margin m needs z² (1 - m) / m photos: 178 for 1.5
    points, 268 for 1 point.

    Args:
        gained: Photos that only the second run has right.
        lost: Photos that only the first run has right.
        photos: All photos both runs answered.
        margin: As a fraction, in (0, 1), stated beforehand.
        alpha: Level of each one-sided test.

    Raises:
        ValueError: If a number is impossible.

    Source: Tango 1998, Statistics in Medicine 17, 891-908; Schuirmann 1987 (two one-sided tests).
    """
    check_margin(margin)
    check_changes(gained, lost, photos)
    if margin >= 1.0:
        raise ValueError(f"margin is a fraction: 0.015 for 1.5 points. Received: {margin}")
    interval = tango_interval(gained, lost, photos, 1.0 - 2.0 * alpha)
    above = 1.0 - NormalDist().cdf(paired_score(gained, lost, photos, -margin))
    below = NormalDist().cdf(paired_score(gained, lost, photos, margin))
    return Equivalence.build((gained - lost) / photos, interval, margin, alpha, max(above, below))


def log_loss_equivalence(
    changes: NDArray[np.float64],
    *,
    margin: float,
    alpha: float = 0.05,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
) -> Equivalence:
    """Whether the mean change in log loss is zero to within a margin.

    By the paired bootstrap-t interval at level `1 - 2 * alpha`. At 95 % nominal it was measured to cover 88 %
    at 20 photos, 91 % at 160 and 95 % at 2000. Identical predictions have an interval of [0, 0]: they are the
    same classifier.

    Args:
        changes: `(photos,)`, log loss of the second run minus the first, each within `CHANGE_BOUNDS`.
        margin: In nats, stated beforehand.
        alpha: Level of each one-sided test.
        replicates: 100 or more.
        seed: Seed of the resamples.

    Raises:
        ValueError: If a number is impossible.

    Source: Schuirmann 1987; interval as in `mean_interval`.
    """
    check_margin(margin)
    level = 1.0 - 2.0 * alpha
    interval = mean_interval(changes, level=level, replicates=replicates, seed=seed, bounds=CHANGE_BOUNDS)
    return Equivalence.build(float(changes.mean()), interval, margin, alpha, None)
