from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.weightstats import ttost_paired

from finetunekit.evaluation.baselines.record import Baseline, baselines_record
from finetunekit.statistics import (
    accuracy_equivalence,
    bonferroni,
    bootstrap_change,
    compare_predictions,
    log_loss_equivalence,
    mcnemar_exact,
    mcnemar_photos,
    paired_interval,
    photos_to_tell_apart,
    seed_equivalence,
    simultaneous_level,
    summarise_seeds,
    tango_interval,
)
from finetunekit.statistics.arrays import FloatArray


def _answers(right: list[bool], confidence: float = 0.9) -> FloatArray:
    """Two-class probabilities of photos of class 0, right or wrong."""
    top = np.where(right, confidence, 1 - confidence)
    return np.stack([top, 1 - top], axis=1)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (3, 12), (7, 7), (600, 700)])
def test_mcnemar_agrees_with_scipy_and_statsmodels(gained: int, lost: int) -> None:
    found = mcnemar_exact(gained, lost)
    if gained + lost:
        assert found.p_exact == pytest.approx(stats.binomtest(gained, gained + lost).pvalue, rel=1e-9)
        table = [[50, gained], [lost, 10]]
        assert found.p_exact == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)
    else:
        assert (found.p_exact, found.p_mid) == (1.0, 1.0)
    assert found.p_mid <= found.p_exact


def test_mid_p_by_hand() -> None:
    # Five of five one way: exact 2/32, mid-p 1/32.
    found = mcnemar_exact(5, 0)
    assert (found.p_exact, found.p_mid) == pytest.approx((2 / 32, 1 / 32))


def test_comparison_by_hand() -> None:
    first = _answers([True, True, False, False, True, True])
    second = _answers([True, False, True, True, True, True])
    found = compare_predictions(first, second, np.zeros(6, int))
    assert (found.gained, found.lost) == ((2, 3), (1,))
    assert (found.first_correct, found.second_correct, found.photos) == (4, 5, 6)
    assert found.accuracy_difference == pytest.approx(1 / 6)
    assert found.log_loss_difference == pytest.approx(-np.log(9.0) / 6)
    assert found.mcnemar == mcnemar_exact(2, 1)
    assert not found.is_told_apart
    assert found.accuracy_equivalence is None
    assert found.log_loss_equivalence is None
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["lost"] == [1]


def test_a_clear_difference_is_told_apart() -> None:
    first, second = _answers([True] * 100 + [False] * 60), _answers([True] * 140 + [False] * 20)
    found = compare_predictions(first, second, np.zeros(160, int), accuracy_margin=0.05, log_loss_margin=0.1)
    assert found.is_told_apart
    assert found.accuracy_interval.low > 0.0
    assert found.log_loss_interval.high < 0.0
    assert found.accuracy_equivalence is not None
    assert not found.accuracy_equivalence.is_equivalent
    assert found.log_loss_equivalence is not None
    assert not found.log_loss_equivalence.is_equivalent
    swapped = compare_predictions(second, first, np.zeros(160, int))
    assert swapped.accuracy_interval.high == pytest.approx(-found.accuracy_interval.low)
    assert swapped.gained == found.lost


def test_one_photo_compares_without_infinities() -> None:
    found = compare_predictions(_answers([True]), _answers([False]), np.zeros(1, int), log_loss_margin=1.0)
    json.dumps(asdict(found), allow_nan=False)
    assert found.log_loss_equivalence is not None
    assert not found.log_loss_equivalence.is_equivalent


def test_different_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="same photos and classes"):
        compare_predictions(np.full((3, 2), 1 / 2), np.full((3, 4), 1 / 4), np.zeros(3, int))


def test_paired_bootstrap_agrees_with_scipy() -> None:
    changes = np.repeat([1.0, -1.0, 0.0], [30, 12, 118])
    theirs = stats.bootstrap(
        (changes,), np.mean, method="percentile", n_resamples=5000, rng=np.random.default_rng(0)
    ).confidence_interval
    ours = bootstrap_change(30, 12, 160, replicates=5000)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1 / 160 + 1e-9)


def test_no_changed_photo_is_not_equivalence_on_few_photos() -> None:
    # z² (1 - m) / m = 177.7 photos for 1.5 points.
    assert not accuracy_equivalence(0, 0, 160, margin=0.015).is_equivalent
    assert not accuracy_equivalence(0, 0, 177, margin=0.015).is_equivalent
    assert accuracy_equivalence(0, 0, 178, margin=0.015).is_equivalent
    assert bootstrap_change(0, 0, 20).high == 0.0


@pytest.mark.parametrize("counts", [(0, 0, 178), (3, 2, 500), (10, 30, 2000), (2, 1, 40)])
@pytest.mark.parametrize("margin", [0.005, 0.015, 0.05])
def test_equivalence_and_its_p_value_agree(counts: tuple[int, int, int], margin: float) -> None:
    found = accuracy_equivalence(*counts, margin=margin)
    assert found.p_value is not None
    assert found.is_equivalent == (found.p_value < 0.05)
    assert found.interval.level == pytest.approx(0.9)


def test_log_loss_equivalence() -> None:
    changes = np.random.default_rng(0).normal(0.001, 0.05, 400)
    assert log_loss_equivalence(changes, margin=0.02).is_equivalent
    assert not log_loss_equivalence(changes, margin=0.003).is_equivalent
    assert not log_loss_equivalence(changes + 0.03, margin=0.02).is_equivalent


def test_margins_are_fractions() -> None:
    with pytest.raises(ValueError, match=r"margin is a fraction: 0\.015 for 1\.5 points"):
        accuracy_equivalence(1, 1, 100, margin=1.5)
    with pytest.raises(ValueError, match="margin must be a positive number"):
        accuracy_equivalence(1, 1, 100, margin=0.0)


def test_sample_size_by_hand() -> None:
    # Connor 1987: (1.959964 √0.1 + 0.841621 √(0.1 - 0.05²))² / 0.05² = 312.0…
    expected = (1.959964 * np.sqrt(0.1) + 0.841621 * np.sqrt(0.1 - 0.0025)) ** 2 / 0.0025
    assert mcnemar_photos(0.1, 0.05) == np.ceil(expected)
    assert mcnemar_photos(0.0, 0.01) == mcnemar_photos(0.01, 0.01)


def test_sample_size_has_the_power_it_promises() -> None:
    photos = mcnemar_photos(0.1, 0.05)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(photos, [0.075, 0.025, 0.9], size=4000)
    power = np.mean([mcnemar_exact(int(b), int(c)).p_mid < 0.05 for b, c, _ in drawn])
    assert 0.76 < power < 0.84


def test_photos_to_tell_apart_has_a_floor() -> None:
    none = photos_to_tell_apart(0, 0, 160)
    assert none.discordance == 0.01
    assert none.photos == none.photos_low == mcnemar_photos(0.01, 0.01)
    some = photos_to_tell_apart(6, 5, 160)
    assert some.discordance == pytest.approx(11.5 / 161)
    assert some.photos_low < some.photos < some.photos_high
    assert 5000 < some.photos < 6000


def test_seeds_agree_with_scipy() -> None:
    values = [0.91, 0.92, 0.90, 0.93, 0.915]
    found = summarise_seeds(values)
    assert found is not None
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
    assert (found.seeds, found.mean, found.standard_deviation) == pytest.approx((5, 0.915, np.std(values, ddof=1)))


def test_one_seed_has_no_spread() -> None:
    assert summarise_seeds([0.9]) is None
    assert seed_equivalence([0.9], [0.9], margin=0.01) is None


def test_seed_equivalence_agrees_with_statsmodels() -> None:
    first, second = [0.91, 0.92, 0.90, 0.93], [0.915, 0.918, 0.905, 0.932]
    for margin in (0.003, 0.01):
        found = seed_equivalence(first, second, margin=margin)
        assert found is not None
        p_value = ttost_paired(np.array(second), np.array(first), -margin, margin)[0]
        assert found.p_value == pytest.approx(p_value)
        assert found.is_equivalent == (p_value < 0.05)


def test_seed_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the same seeds\. Received: 2 and 3"):
        seed_equivalence([1.0, 2.0], [1.0, 2.0, 3.0], margin=0.1)
    with pytest.raises(ValueError, match="scores of seeds must be finite"):
        summarise_seeds([0.9, float("nan")])


def test_seeds_without_spread() -> None:
    found = seed_equivalence([0.9, 0.8], [0.9, 0.8], margin=0.01)
    assert found is not None
    assert (found.is_equivalent, found.p_value) == (True, 0.0)


# ---- an interval and a verdict that never disagree -------------------------------------------------------------------------------


@pytest.mark.parametrize("comparisons", [1, 6, 200])
def test_an_interval_excludes_0_exactly_where_its_p_value_is_below_5_percent(comparisons: int) -> None:
    """Every count of photos that changed sides that could decide it, and a simulation of counts beyond."""
    level = simultaneous_level(comparisons)
    drawn = np.random.default_rng(0).integers(0, 60, (60, 2))
    counts = [(gained, lost) for gained in range(14) for lost in range(gained, 14)] + [
        tuple(map(int, row)) for row in drawn
    ]
    for gained, lost in counts:
        p = bonferroni([mcnemar_exact(gained, lost).p] * comparisons)[0]
        for photos in {max(1, gained + lost), 160, 2000}:
            interval = paired_interval(gained, lost, photos, level)
            assert (p < 0.05) == (not interval.contains(0.0)), (gained, lost, photos)
            assert interval.contains((gained - lost) / photos)
            assert interval.low <= tango_interval(gained, lost, photos, level).low


def test_the_example_that_contradicted_itself() -> None:
    """Five photos of 76 lost, none gained, one of six baselines: Tango's interval excluded 0 where p was 0.19."""
    assert not tango_interval(0, 5, 76).contains(0.0)
    assert paired_interval(0, 5, 76).contains(0.0)
    assert bonferroni([mcnemar_exact(0, 5).p] * 6)[0] == pytest.approx(6 / 16)


def test_verdicts_of_simulated_runs_never_contradict_their_intervals() -> None:
    rng = np.random.default_rng(1)
    told = 0
    for _ in range(40):
        labels, answers = rng.integers(0, 3, 80), []
        for share in rng.uniform(0.6, 1.0, 4):
            answers.append(np.where(rng.random(80) < share, labels, (labels + 1) % 3))
        found = baselines_record([Baseline(str(i), "", one) for i, one in enumerate(answers[1:])], answers[0], labels,
                                 is_finetuned=True)  # fmt: skip
        for one in found["baselines"]:
            against = one["against"]
            excludes = not against["interval"]["low"] <= 0.0 <= against["interval"]["high"]
            assert against["is_told_apart"] == excludes == (against["p_adjusted"] < 0.05)
            told += excludes
    assert 0 < told < 120
