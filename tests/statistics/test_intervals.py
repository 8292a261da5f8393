from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from finetunekit.statistics import (
    Interval,
    mean_interval,
    newcombe_interval,
    tango_interval,
    wilson_interval,
)
from finetunekit.statistics.intervals import paired_score


def test_published_accuracy_has_its_interval() -> None:
    interval = wilson_interval(147, 160)
    assert (round(interval.low, 3), round(interval.high, 3)) == (0.866, 0.952)
    assert interval.contains(147 / 160)
    assert interval.method == "wilson"


@pytest.mark.parametrize(("successes", "photos"), [(0, 1), (1, 1), (0, 20), (7, 20), (160, 160), (1834, 2000)])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_wilson_agrees_with_scipy_and_statsmodels(successes: int, photos: int, level: float) -> None:
    ours = wilson_interval(successes, photos, level)
    theirs = stats.binomtest(successes, photos).proportion_ci(level, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    others = proportion_confint(successes, photos, alpha=1 - level, method="wilson")
    assert (ours.low, ours.high) == pytest.approx(others, abs=1e-12)


def test_wilson_ends_are_exact_at_none_and_all() -> None:
    assert wilson_interval(0, 160).low == 0.0
    assert wilson_interval(160, 160).high == 1.0
    assert wilson_interval(160, 160).low == pytest.approx(160 / (160 + stats.norm.ppf(0.975) ** 2))


@pytest.mark.parametrize("counts", [(147, 160, 146, 160), (56, 70, 48, 80), (10, 10, 0, 20), (9, 10, 3, 10)])
def test_newcombe_agrees_with_statsmodels(counts: tuple[int, int, int, int]) -> None:
    ours = newcombe_interval(*counts)
    assert (ours.low, ours.high) == pytest.approx(confint_proportions_2indep(*counts, method="newcomb"), abs=1e-9)


def test_newcombe_published_example() -> None:
    # Newcombe 1998, table II, case (a), method 10: 56/70 - 48/80 is 0.0524 to 0.3339.
    interval = newcombe_interval(56, 70, 48, 80)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.0524, 0.3339)


def _restricted_score(gained: int, lost: int, photos: int, difference: float) -> float:
    """Tango's statistic with the restricted likelihood maximised numerically instead of by its formula."""
    same = photos - gained - lost

    def loss(losing: float) -> float:
        shares = np.array([losing + difference, losing, 1 - 2 * losing - difference])
        counts = np.array([gained, lost, same])
        return -float(np.sum(counts * np.log(np.maximum(shares, 1e-300))))

    low, high = max(0.0, -difference), (1 - difference) / 2
    losing = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    variance = photos * (2 * losing + difference - difference**2)
    return float((gained - lost - photos * difference) / np.sqrt(variance))


@pytest.mark.parametrize("counts", [(9, 3, 20), (1, 1, 20), (6, 5, 160), (2, 17, 160), (80, 120, 2000)])
@pytest.mark.parametrize("difference", [-0.2, -0.03, 0.01, 0.15])
def test_paired_score_agrees_with_a_numerical_maximum(counts: tuple[int, int, int], difference: float) -> None:
    assert paired_score(*counts, difference) == pytest.approx(_restricted_score(*counts, difference), rel=1e-4)


def test_tango_interval_ends_where_the_score_is_critical() -> None:
    interval = tango_interval(9, 3, 160)
    assert paired_score(9, 3, 160, interval.low) == pytest.approx(1.959964, abs=1e-5)
    assert paired_score(9, 3, 160, interval.high) == pytest.approx(-1.959964, abs=1e-5)


@pytest.mark.parametrize("photos", [1, 20, 160])
def test_tango_interval_without_changes_is_not_zero(photos: int) -> None:
    square = stats.norm.ppf(0.975) ** 2
    interval = tango_interval(0, 0, photos)
    assert interval.high == pytest.approx(square / (photos + square))
    assert interval.low == pytest.approx(-interval.high)


def test_tango_interval_mirrors_and_stays_in_range() -> None:
    forward, backward = tango_interval(20, 0, 20), tango_interval(0, 20, 20)
    assert forward.high == 1.0
    assert backward.low == -1.0
    assert forward.low == pytest.approx(-backward.high)
    assert forward.low > 0.5


def test_mean_interval_agrees_with_student_on_normal_values() -> None:
    values = np.random.default_rng(0).normal(3.0, 1.0, 500)
    interval = mean_interval(values, replicates=20_000)
    low, high = stats.t.interval(0.95, 499, loc=values.mean(), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.01)


def test_mean_interval_is_longer_towards_the_long_tail() -> None:
    values = np.random.default_rng(1).exponential(1.0, 60)
    interval = mean_interval(values)
    assert interval.high - values.mean() > values.mean() - interval.low


def test_mean_interval_keeps_its_seed_and_its_bounds() -> None:
    values = np.random.default_rng(0).exponential(0.5, 30)
    assert mean_interval(values, seed=3, bounds=(0.0, 2.0)) == mean_interval(values, seed=3, bounds=(0.0, 2.0))
    assert mean_interval(values, seed=3) != mean_interval(values, seed=4)
    interval = mean_interval(np.array([0.0, 0.0, 0.1, 2.0]), bounds=(0.0, 2.0))
    assert interval.low >= 0.0
    assert interval.high == 2.0


def test_mean_interval_of_one_photo_is_the_whole_range_and_of_equal_photos_a_point() -> None:
    one = mean_interval(np.array([0.3]), bounds=(0.0, 2.0))
    assert (one.low, one.high) == (0.0, 2.0)
    equal = mean_interval(np.full(20, 0.7))
    assert (equal.low, equal.high) == pytest.approx((0.7, 0.7))


def test_chunks_do_not_change_the_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).exponential(1.0, 100)
    whole = mean_interval(values, replicates=10_000)
    monkeypatch.setattr("finetunekit.statistics.bootstrap.CHUNK_DRAWS", 700)
    chunked = mean_interval(values, replicates=10_000)
    assert (chunked.low, chunked.high) == pytest.approx((whole.low, whole.high), rel=0.03)


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one photo"):
        wilson_interval(0, 0)
    with pytest.raises(ValueError, match=r"successes must lie in \[0, 10\]"):
        wilson_interval(11, 10)
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, such as 0\.95"):
        wilson_interval(1, 10, 95)
    with pytest.raises(ValueError, match="must not be negative"):
        tango_interval(-1, 2, 10)
    with pytest.raises(ValueError, match="100 replicates"):
        mean_interval(np.arange(5.0), replicates=10)
    with pytest.raises(ValueError, match="no photos to average"):
        mean_interval(np.array([]))


def test_interval_includes_its_ends() -> None:
    interval = Interval(0.1, 0.2, method="x")
    assert interval.level == 0.95
    assert [interval.contains(v) for v in (0.09, 0.1, 0.2, 0.21)] == [False, True, True, False]


def test_import_stays_cheap() -> None:
    heavy = ("scipy", "sklearn", "tensorflow")
    code = f"import sys, finetunekit.statistics; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
