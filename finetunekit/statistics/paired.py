"""Two runs on the same photos: what changed, whether they can be told apart, whether they count as equal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics.arrays import check_predictions, photo_log_losses
from finetunekit.statistics.bootstrap import (
    DEFAULT_REPLICATES,
    check_replicates,
    mean_interval,
    percentile_interval,
)
from finetunekit.statistics.equivalence import (
    CHANGE_BOUNDS,
    Equivalence,
    accuracy_equivalence,
    log_loss_equivalence,
)
from finetunekit.statistics.intervals import Interval, check_changes, paired_interval
from finetunekit.statistics.power import SampleSize, photos_to_tell_apart


@dataclass(frozen=True, slots=True)
class McNemar:
    """Exact test of "both runs are right equally often", given the photos that changed sides.

    Attributes:
        gained: Photos that only the second run has right.
        lost: Photos that only the first run has right.
        p_exact: Two-sided binomial p-value; never too small.
        p_mid: The same with half the probability of the observed split; less conservative.
        p_score: Of McNemar's statistic, which Tango's interval inverts.
    """

    gained: int
    lost: int
    p_exact: float
    p_mid: float
    p_score: float

    @property
    def p(self) -> float:
        """The p-value of every verdict: the larger of `p_exact` and `p_score`, nearly always the former; see `paired_interval`."""
        return max(self.p_exact, self.p_score)


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """The second run against the first on the same photos. All differences are second minus first.

    Attributes:
        photos: Photos both runs answered.
        first_correct: Photos the first run has right.
        second_correct: Photos the second run has right.
        gained: Row indices of photos that only the second run has right.
        lost: Row indices of photos that only the first run has right.
        mcnemar: The test of a difference in accuracy.
        is_told_apart: Whether `mcnemar.p` is below `1 - level`, and so `accuracy_interval` excludes 0.
        accuracy_difference: As a fraction: 0.01 is one point.
        accuracy_interval: The one to quote; see `paired_interval`.
        accuracy_bootstrap: Paired percentile bootstrap over photos; collapses where few photos changed sides.
        log_loss_difference: In nats; negative means that the second run is better.
        log_loss_interval: Paired bootstrap-t over photos.
        photos_needed: About how many photos a given difference in accuracy would take.
        accuracy_equivalence: None where no margin was stated.
        log_loss_equivalence: None where no margin was stated.
    """

    photos: int
    first_correct: int
    second_correct: int
    gained: tuple[int, ...]
    lost: tuple[int, ...]
    mcnemar: McNemar
    is_told_apart: bool
    accuracy_difference: float
    accuracy_interval: Interval
    accuracy_bootstrap: Interval
    log_loss_difference: float
    log_loss_interval: Interval
    photos_needed: SampleSize
    accuracy_equivalence: Equivalence | None
    log_loss_equivalence: Equivalence | None


def mcnemar_exact(gained: int, lost: int) -> McNemar:
    """McNemar's test as an exact binomial test of the photos that changed sides.

    Args:
        gained: Photos that only the second run has right.
        lost: Photos that only the first run has right.

    Raises:
        ValueError: If a count is negative.

    Source: McNemar 1947, Psychometrika 12(2); mid-p by Fagerland, Lydersen & Laake 2013, BMC Med. Res.
        Methodology 13:91.
    """
    from scipy.special import bdtr, gammaln

    if min(gained, lost) < 0:
        raise ValueError(f"counts must not be negative. Received: gained {gained}, lost {lost}")
    changed, fewer = gained + lost, min(gained, lost)
    # P(X = fewer) of a fair coin, through logarithms so that thousands of photos do not overflow.
    log_point = gammaln(changed + 1) - gammaln(fewer + 1) - gammaln(changed - fewer + 1) - changed * np.log(2.0)
    exact = min(1.0, 2.0 * float(bdtr(fewer, changed, 0.5)))
    mid = min(1.0, 2.0 * float(bdtr(fewer, changed, 0.5)) - float(np.exp(log_point)))
    score = math.erfc(abs(gained - lost) / math.sqrt(2.0 * changed)) if changed else 1.0
    return McNemar(gained, lost, exact, mid, score)


def compare_predictions(
    first: NDArray[Any],
    second: NDArray[Any],
    labels: NDArray[Any],
    *,
    accuracy_margin: float | None = None,
    log_loss_margin: float | None = None,
    difference: float = 0.01,
    level: float = 0.95,
    alpha: float = 0.05,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
) -> PairedComparison:
    """Compare two runs on the same photos, row by row.

    Args:
        first: Probabilities of the first run, `(photos, classes)`.
        second: Probabilities of the second run for the same photos in the same order, `(photos, classes)`.
        labels: `(photos,)`, integers in [0, classes).
        accuracy_margin: Margin of the equivalence test, as a fraction; None leaves the test out.
        log_loss_margin: Margin of the equivalence test, in nats; None leaves the test out.
        difference: Difference in accuracy, as a fraction, for the number of photos needed.
        level: Two-sided confidence of the intervals, in (0, 1).
        alpha: Level of each one-sided test of equivalence.
        replicates: Bootstrap replicates, 100 or more.
        seed: Seed of the bootstraps.

    Raises:
        ValueError: If the shapes differ, or an array or a number is impossible.

    Source: each part's own docstring.
    """
    before, truth = check_predictions(first, labels)
    after, _ = check_predictions(second, labels)
    if before.shape != after.shape:
        raise ValueError(f"both runs need the same photos and classes. Received: {before.shape} and {after.shape}")
    was_right, is_right = before.argmax(axis=1) == truth, after.argmax(axis=1) == truth
    gained, lost = np.flatnonzero(is_right & ~was_right), np.flatnonzero(was_right & ~is_right)
    counts = (len(gained), len(lost), len(truth))
    changes = photo_log_losses(after, truth) - photo_log_losses(before, truth)
    test = mcnemar_exact(*counts[:2])
    return PairedComparison(
        photos=len(truth),
        first_correct=int(was_right.sum()),
        second_correct=int(is_right.sum()),
        gained=tuple(gained.tolist()),
        lost=tuple(lost.tolist()),
        mcnemar=test,
        is_told_apart=test.p < 1.0 - level,
        accuracy_difference=(len(gained) - len(lost)) / len(truth),
        accuracy_interval=paired_interval(*counts, level),
        accuracy_bootstrap=bootstrap_change(*counts, level=level, replicates=replicates, seed=seed),
        log_loss_difference=float(changes.mean()),
        log_loss_interval=mean_interval(changes, level=level, replicates=replicates, seed=seed, bounds=CHANGE_BOUNDS),
        photos_needed=photos_to_tell_apart(*counts, difference=difference),
        accuracy_equivalence=None
        if accuracy_margin is None
        else accuracy_equivalence(*counts, margin=accuracy_margin, alpha=alpha),
        log_loss_equivalence=None
        if log_loss_margin is None
        else log_loss_equivalence(changes, margin=log_loss_margin, alpha=alpha, replicates=replicates, seed=seed),
    )


def bootstrap_change(
    gained: int,
    lost: int,
    photos: int,
    *,
    level: float = 0.95,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
) -> Interval:
    """Paired percentile bootstrap of the difference in accuracy: photos that gained, lost or stayed are
    redrawn.

    Raises:
        ValueError: If a number is impossible.

    Source: Efron & Tibshirani 1993, chapter 13.
    """
    check_replicates(replicates)
    check_changes(gained, lost, photos)
    shares = np.array([gained, lost, photos - gained - lost]) / photos
    drawn = np.random.default_rng(seed).multinomial(photos, shares, size=replicates)
    return percentile_interval((drawn[:, 0] - drawn[:, 1]) / photos, level, "paired bootstrap over photos")
