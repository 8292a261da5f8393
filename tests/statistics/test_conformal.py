"""Sets of classes and p-values keep what they promise, by hand and over thousands of simulated draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from finetunekit.statistics import conformal_p_values, coverage_spread, fit_class_sets, photos_for_coverage, softmax
from finetunekit.statistics.conformal import conformal_rank, conformal_threshold

DRAWS = 2000


def test_the_threshold_by_hand() -> None:
    """Of 9 photos the ninth is the threshold for 0.9; of 8 there is none."""
    true = np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.3])
    rows, labels = np.stack([true, 1 - true], axis=1), np.zeros(9, np.int64)
    rule = fit_class_sets(rows, labels, 0.9)
    assert rule.thresholds == pytest.approx((0.7, 0.7))
    assert rule.members(np.array([[0.29, 0.71], [0.5, 0.5], [0.31, 0.69]])).tolist() == [
        [False, True],
        [True, True],
        [True, True],
    ]
    few = fit_class_sets(rows[:8], labels[:8], 0.9)
    assert few.thresholds == (math.inf, math.inf)
    assert few.members(rows).all()


@pytest.mark.parametrize(
    ("coverage", "photos"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.999, 999), (0.7, 3)]
)
def test_the_least_number_of_photos_is_exact(coverage: float, photos: int) -> None:
    assert photos_for_coverage(coverage) == photos
    assert conformal_rank(photos, coverage) <= photos
    assert conformal_rank(photos - 1, coverage) > photos - 1


def test_a_sure_network_gives_empty_sets_to_photos_that_it_is_unsure_of() -> None:
    rows = np.tile([0.99, 0.01], (50, 1)) + np.linspace(0, 0.009, 50)[:, None] * [1, -1]
    rule = fit_class_sets(rows, np.zeros(50, np.int64), 0.8)
    assert not rule.members(np.array([[0.6, 0.4]])).any()


def test_per_class_a_class_without_photos_is_in_every_set() -> None:
    rows = np.tile([0.6, 0.3, 0.1], (40, 1))
    rule = fit_class_sets(rows, np.arange(40) % 2, 0.9, is_per_class=True)
    assert rule.photos == (20, 20, 0)
    assert rule.thresholds == pytest.approx((0.4, 0.7, math.inf))
    assert rule.members(np.array([[0.1, 0.1, 0.8]])).tolist() == [[False, False, True]]


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, math.nan])
def test_an_impossible_coverage_is_refused(coverage: float) -> None:
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        fit_class_sets(np.array([[0.5, 0.5]]), np.array([0]), coverage)


def _scores(photos: int, seed: int) -> np.ndarray:
    """`1 - p(true)` of `DRAWS` sets of photos, `(DRAWS, photos)`, from a network of 4 classes that is too sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (DRAWS * photos, 4))
    labels = (logits / 1.8 + rng.gumbel(size=logits.shape)).argmax(axis=1)
    scores: np.ndarray = 1 - softmax(logits)[np.arange(len(labels)), labels]
    return scores.reshape(DRAWS, photos)


@pytest.mark.parametrize("photos", [40, 200, 2000])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_is_what_was_asked_for(photos: int, coverage: float) -> None:
    """One new photo beside each of 2,000 sets: the share covered lies within four binomial errors of the promise."""
    scores = _scores(photos + 1, seed=photos)
    rank = conformal_rank(photos, coverage)
    thresholds = np.partition(scores[:, :-1], rank - 1, axis=1)[:, rank - 1]
    assert thresholds[0] == conformal_threshold(scores[0, :-1], coverage)
    covered = (scores[:, -1] <= thresholds).mean()
    error = 4 * math.sqrt(coverage * (1 - coverage) / DRAWS)
    assert coverage - error <= covered <= coverage + 1 / (photos + 1) + error


def test_coverage_of_single_rules_spreads_as_said() -> None:
    """True coverage of 2,000 rules from 40 photos each: 95 % of them lie within the interval."""
    scores, many = _scores(40, seed=5), np.sort(_scores(200, seed=6).ravel())
    rank = conformal_rank(40, 0.9)
    true = np.searchsorted(many, np.sort(scores, axis=1)[:, rank - 1], side="right") / len(many)
    spread = coverage_spread(40, 0.9)
    assert np.mean((true >= spread.low) & (true <= spread.high)) == pytest.approx(0.95, abs=0.02)
    assert coverage_spread(8, 0.9).low == 1.0


def test_p_values_by_hand_and_in_ties() -> None:
    found = conformal_p_values(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.0, 2.0, 2.5, 9.0]))
    assert found == pytest.approx([1.0, 4 / 5, 2 / 5, 1 / 5])
    with pytest.raises(ValueError, match="at least one"):
        conformal_p_values(np.zeros(0), np.zeros(1))


@pytest.mark.parametrize("photos", [40, 200])
def test_p_values_of_photos_like_the_known_ones_are_small_no_more_often_than_they_say(photos: int) -> None:
    scores = _scores(photos + 1, seed=9)
    p_values = np.array([conformal_p_values(row[:-1], row[-1:])[0] for row in scores])
    for level in (0.025, 0.05, 0.1, 0.5):
        assert (p_values <= level).mean() <= level + 4 * math.sqrt(level * (1 - level) / DRAWS)
