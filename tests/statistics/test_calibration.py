from __future__ import annotations

import numpy as np
import pytest

from finetunekit.statistics import (
    TEMPERATURE_BOUNDS,
    apply_temperature,
    bootstrap,
    calibration,
    default_bins,
    fit_temperature,
    log_probabilities,
    measure_calibration,
    photo_log_losses,
    softmax,
    summarise_predictions,
    wilson_interval,
)
from finetunekit.statistics.arrays import FloatArray, IntArray


def _calibrated(photos: int, sharpness: float = 1.0, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Logits, and labels drawn from them at temperature `sharpness`: the one to find."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.0, (photos, 4))
    labels = (rng.random((photos, 1)) > softmax(logits / sharpness).cumsum(axis=1)).sum(axis=1)
    return logits, np.minimum(labels, 3)


def test_softmax_of_any_logits_in_any_precision() -> None:
    found = softmax(np.array([[0, np.log(3)], [1000, 1000 + np.log(3)]], np.float64))
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.25, 0.75]])
    assert softmax(np.zeros((2, 3), np.float32)).dtype == np.float64


def test_hand_computed_errors() -> None:
    # Two bins in use of four: (0.5, 0.75] holds 0.6 and 0.7, one right; (0.75, 1] has 0.9 twice, both right.
    top = np.array([0.6, 0.7, 0.9, 0.9])
    probabilities = np.stack([top, 1 - top], axis=1)
    found = measure_calibration(probabilities, np.array([0, 1, 0, 0]), bins=4)
    assert found.expected_error.value == pytest.approx(0.5 * 0.15 + 0.5 * 0.10)
    assert found.maximum_error.value == pytest.approx(0.15)
    assert [one.photos for one in found.bins] == [0, 0, 2, 2]
    assert found.bins[0].accuracy is None
    assert found.bins[0].interval is None
    assert (found.bins[2].mean_confidence, found.bins[2].accuracy) == pytest.approx((0.65, 0.5))
    assert found.bins[3].interval == wilson_interval(2, 2)
    assert (found.bins[3].low, found.bins[3].high) == (0.75, 1.0)


def test_bins_follow_the_number_of_photos() -> None:
    assert [default_bins(n) for n in (1, 20, 60, 160, 300, 2000)] == [2, 2, 3, 8, 15, 15]
    logits, labels = _calibrated(160)
    assert len(measure_calibration(softmax(logits), labels).bins) == 8


def test_a_bin_edge_belongs_to_the_bin_below() -> None:
    found = measure_calibration(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]), bins=2)
    assert [one.photos for one in found.bins] == [1, 1]


def test_a_calibrated_classifier_is_not_accused() -> None:
    logits, labels = _calibrated(2000)
    error = measure_calibration(softmax(logits), labels).expected_error
    assert error.value > 0.0
    assert error.interval.low == 0.0
    assert error.value == pytest.approx(error.if_calibrated, abs=0.01)


def test_an_overconfident_classifier_is() -> None:
    logits, labels = _calibrated(2000, sharpness=3.0)
    found = measure_calibration(softmax(logits), labels)
    assert found.expected_error.interval.low > 5 * found.expected_error.if_calibrated
    assert found.expected_error.interval.contains(found.expected_error.value)
    assert found.maximum_error.value >= found.expected_error.value


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_temperature_is_found(temperature: float) -> None:
    logits, labels = _calibrated(20_000, sharpness=temperature)
    fit = fit_temperature(logits, labels)
    assert fit.temperature == pytest.approx(temperature, rel=0.05)
    assert fit.bound_hit is None
    assert fit.photos == 20_000
    assert fit.log_loss_after <= fit.log_loss_before


def test_fitted_temperature_is_a_minimum() -> None:
    logits, labels = _calibrated(200, sharpness=2.0)
    fit = fit_temperature(logits, labels)
    losses = [photo_log_losses(softmax(logits / (fit.temperature * step)), labels).mean() for step in (0.98, 1.0, 1.02)]
    assert losses[1] == min(losses)
    assert fit.log_loss_after == pytest.approx(losses[1])


def test_log_probabilities_serve_as_logits() -> None:
    logits, labels = _calibrated(300, sharpness=1.7)
    from_logits = fit_temperature(logits, labels)
    from_probabilities = fit_temperature(log_probabilities(softmax(logits)), labels)
    assert from_probabilities.temperature == pytest.approx(from_logits.temperature, rel=1e-4)


def test_scaling_lowers_the_calibration_error_and_changes_no_answer() -> None:
    logits, labels = _calibrated(4000, sharpness=2.5)
    fit = fit_temperature(logits[:2000], labels[:2000])
    before = softmax(logits[2000:])
    after = apply_temperature(before, fit.temperature)
    assert np.array_equal(after.argmax(axis=1), before.argmax(axis=1))
    assert after.sum(axis=1) == pytest.approx(1.0)
    errors = [measure_calibration(p, labels[2000:]).expected_error.value for p in (before, after)]
    assert errors[1] < errors[0] / 3


def test_separated_validation_split_stops_at_the_bound_and_says_so() -> None:
    logits = np.eye(4)[[0, 1, 2, 3]] * 5.0
    fit = fit_temperature(logits, np.arange(4))
    assert (fit.temperature, fit.bound_hit) == (TEMPERATURE_BOUNDS[0], "low")
    worst = fit_temperature(logits, (np.arange(4) + 1) % 4)
    assert (worst.temperature, worst.bound_hit) == (TEMPERATURE_BOUNDS[1], "high")


def test_saturated_probabilities_stay_finite() -> None:
    softened = apply_temperature(np.array([[1.0, 0.0]]), 2.0)
    assert 0.0 < softened[0, 1] < 1e-7
    assert apply_temperature(np.array([[0.8, 0.2]]), 1.0) == pytest.approx(np.array([[0.8, 0.2]]))


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        apply_temperature(np.array([[0.8, 0.2]]), 0.0)
    with pytest.raises(ValueError, match="logits must be finite"):
        fit_temperature(np.array([[0.0, -np.inf]]), np.array([0]))
    with pytest.raises(ValueError, match="at least one photo"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(ValueError, match="bins must be 1 or more"):
        measure_calibration(np.array([[0.8, 0.2]]), np.array([0]), bins=0)


# ---- whether a temperature is told from 1 ----------------------------------------------------------------------------------------


def test_the_interval_of_a_calibrated_network_mostly_holds_1() -> None:
    """95 % of 300 draws of 40 photos is 285; six standard errors allowed for."""
    held = sum(fit_temperature(*_calibrated(40, sharpness=1.0, seed=i)).interval.contains(1.0) for i in range(300))
    assert 262 <= held <= 298


@pytest.mark.parametrize("sharpness", [0.5, 2.5])
def test_many_photos_tell_the_temperature_and_few_do_not(sharpness: float) -> None:
    told = fit_temperature(*_calibrated(2000, sharpness=sharpness), level=0.999)
    assert told.is_told
    assert told.interval.contains(sharpness)
    few = fit_temperature(*_calibrated(6, sharpness=sharpness), level=0.999)
    assert not few.is_told
    assert abs(np.log(few.shrunken)) < abs(np.log(few.temperature))
    assert told.shrunken == pytest.approx(told.temperature, rel=0.05)
    assert few.interval.low < told.interval.low < told.interval.high < few.interval.high


def test_photos_without_an_error_bound_no_best_fit_but_a_cautious_one() -> None:
    fit = fit_temperature(np.eye(4)[np.arange(400) % 4] * 5.0, np.arange(400) % 4)
    assert (fit.interval.low, fit.bound_hit, fit.is_told) == (TEMPERATURE_BOUNDS[0], "low", True)
    assert 0.4 < fit.shrunken < fit.interval.high < 1


def test_at_temperature_1_probabilities_are_the_same_bits() -> None:
    before = softmax(np.array([[40.0, 0.0, -600.0]]))
    assert np.array_equal(apply_temperature(before, 1.0), before)
    assert np.log(apply_temperature(before, 5.0)[0]) == pytest.approx([0.0, -8.0, -128.0], abs=1e-3)


def test_many_photos_are_resampled_in_groups_with_nearly_the_same_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 4001)
    logits = generator.normal(size=(4001, 4)) + 2 * np.eye(4)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = []
    for most in (10_000, 500):
        monkeypatch.setattr(bootstrap, "MOST_UNITS", most)
        monkeypatch.setattr(calibration, "MOST_UNITS", most)
        found.append(summarise_predictions(probabilities, labels, num_classes=4))
    one_by_one, grouped = found
    for name in ("log_loss", "brier"):
        expected, close = getattr(one_by_one, name), getattr(grouped, name)
        width = expected.interval.high - expected.interval.low
        assert close.value == expected.value
        assert close.interval.low == pytest.approx(expected.interval.low, abs=0.1 * width)
        assert close.interval.high == pytest.approx(expected.interval.high, abs=0.1 * width)
    expected, close = one_by_one.calibration.expected_error, grouped.calibration.expected_error
    assert close.value == expected.value
    assert close.interval.high == pytest.approx(expected.interval.high, rel=0.1)
    assert close.if_calibrated == pytest.approx(expected.if_calibrated, rel=0.05)
