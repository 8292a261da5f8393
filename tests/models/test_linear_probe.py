"""Solvers, folds, penalties and neighbours of probes on frozen features."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from finetunekit.models.linear_probe.cross_validation import (
    PENALTIES,
    Recipe,
    check_leaving_out,
    choose_penalty,
    cross_validate,
    fit_chosen,
)
from finetunekit.models.linear_probe.linear import fit_linear
from finetunekit.models.linear_probe.nearest_neighbours import nearest_labels
from finetunekit.statistics import fit_temperature, softmax, stratified_folds


def blobs(
    photos: int = 60, channels: int = 20, classes: int = 3, apart: float = 0.8, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Classes around centres of their own, channels of very different sizes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(photos) % classes
    centres = np.random.default_rng(99).normal(0, apart, (classes, channels))
    sizes = np.geomspace(0.01, 100, channels)
    return ((generator.normal(0, 1, (photos, channels)) + centres[labels]) * sizes + sizes).astype(np.float32), labels


def log_loss(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("photos", "channels"), [(60, 20), (30, 100)])
def test_the_penalty_means_what_is_said_whatever_the_numbers_of_photos_and_classes(
    photos: int, channels: int, classes: int
) -> None:
    x, y = blobs(photos, channels, classes)
    z = (x - x.mean(axis=0)) / x.std(axis=0)  # on one scale already
    fit = fit_linear(z, y, classes, penalty=0.1, solver="logistic")

    def objective(kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> float:
        return log_loss(softmax(z @ kernel + bias), y) + 0.1 / 2 * float((kernel.astype(np.float64) ** 2).sum())

    least, generator = objective(fit.kernel, fit.bias), np.random.default_rng(0)
    for factor in (0.98, 1.02):
        assert objective(fit.kernel * np.float32(factor), fit.bias) > least
    for _ in range(20):
        step = 0.01 * generator.normal(size=fit.kernel.shape).astype(np.float32)
        assert objective(fit.kernel + step, fit.bias) > least


def test_ridge_scores_are_made_surer_by_what_left_out_photos_say() -> None:
    x, y = blobs(60, 10)
    z = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float64)
    fit = fit_linear(z, y, 3, penalty=0.1, solver="ridge")
    scores = []
    for i in range(60):
        others = np.arange(60) != i
        left = fit_linear(z[others], y[others], 3, penalty=0.1, solver="ridge")
        logits = left.logits(z[i : i + 1])
        scores.append((logits / logits.sum()).ravel())  # before the scale, scores of a photo sum to 1
    scale = fit.logits(z).sum(axis=1).mean()
    assert scale > 1
    assert 1 / scale == pytest.approx(fit_temperature(np.array(scores), y).temperature, rel=0.02)


def test_ridge_probabilities_are_calibrated_to_logits_that_mean_something() -> None:
    x, y = blobs(300, 10)
    new, truth = blobs(300, 10, seed=5)
    ridge = fit_linear(x / x.std(axis=0), y, 3, penalty=0.01, solver="ridge").probabilities(new / x.std(axis=0))
    logistic = fit_linear(x / x.std(axis=0), y, 3, penalty=0.01, solver="logistic").probabilities(new / x.std(axis=0))
    assert log_loss(ridge, truth) < 1.15 * log_loss(logistic, truth)


def test_a_fit_is_an_ordinary_dense_layer_and_the_same_bits_each_time() -> None:
    x, y = blobs()
    first, second = (fit_linear(x, y, 3, penalty=0.01, solver="logistic") for _ in range(2))
    assert first.kernel.shape == (20, 3)
    assert first.bias.shape == (3,)
    assert first.kernel.dtype == first.bias.dtype == np.float32
    np.testing.assert_array_equal(first.kernel, second.kernel)
    np.testing.assert_array_equal(first.bias, second.bias)
    dense = x @ first.kernel + first.bias
    np.testing.assert_allclose(dense, first.logits(x), rtol=1e-3, atol=1e-2)


def test_a_channel_that_hardly_ever_fires_is_not_blown_up() -> None:
    x, y = blobs(60, 20, apart=0)
    x = x / x.std(axis=0)
    x[:, 0] = 0
    x[0, 0] = 1e-6
    fit = fit_linear(x, y, 3, penalty=1e-3, solver="logistic")
    unseen = x.copy()
    unseen[:, 0] = 1.0
    assert np.abs(fit.logits(unseen) - fit.logits(x)).max() < 5  # of deviation 1e-7 it would be a million deviations


def test_labels_and_features_that_do_not_fit_are_refused() -> None:
    x, y = blobs()
    with pytest.raises(ValueError, match="labels must be 60 integers in"):
        fit_linear(x, y[:-1], 3, penalty=1.0, solver="logistic")
    with pytest.raises(ValueError, match="labels must be 60 integers in"):
        fit_linear(x, y, 2, penalty=1.0, solver="logistic")
    with pytest.raises(ValueError, match="penalty must be a finite number above 0"):
        fit_linear(x, y, 3, penalty=0.0, solver="logistic")
    with pytest.raises(ValueError, match="features must be finite"):
        fit_linear(np.full_like(x, np.nan), y, 3, penalty=1.0, solver="logistic")
    with pytest.raises(ValueError, match="the same for every photo"):
        fit_linear(np.ones_like(x), y, 3, penalty=1.0, solver="logistic")


def test_the_penalty_chosen_has_the_least_left_out_log_loss() -> None:
    x, y = blobs(apart=0.4)
    choice = choose_penalty(x, y, 3)
    tried = dict(choice.tried)
    assert choice.log_loss == min(tried.values()) == tried[choice.penalty]
    assert [penalty for penalty, _ in choice.tried] == list(PENALTIES[: len(tried)])
    assert 1e-3 < choice.penalty <= 10  # classes this close need a strong one
    assert choice.folds == 5


def test_a_cross_validated_loss_is_the_mean_over_photos_left_out() -> None:
    x, y = blobs(apart=0.4)
    fold = stratified_folds(y, 5)
    total = 0.0
    for k in range(5):
        fit = fit_linear(x[fold != k], y[fold != k], 3, penalty=1.0, solver="logistic")
        total += log_loss(fit.probabilities(x[fold == k]), y[fold == k]) * (fold == k).sum()
    assert dict(choose_penalty(x, y, 3).tried)[1.0] == pytest.approx(total / 60, abs=1e-4)


def test_a_repeated_cross_validation_averages_over_other_folds() -> None:
    features, labels = blobs(30)
    alone = [choose_penalty(features, labels, 3, Recipe(seed=seed)) for seed in (4, 5)]
    both = choose_penalty(features, labels, 3, Recipe(seed=4, repeats=2))
    losses = [dict(one.tried) for one in alone]
    for penalty, loss in both.tried:
        if all(penalty in of for of in losses):
            assert loss == pytest.approx((losses[0][penalty] + losses[1][penalty]) / 2)
    assert both.repeats == 2


def test_a_fit_is_the_average_of_fits_with_several_penalties() -> None:
    x, y = blobs(apart=0.4)
    fit, choice = fit_chosen(x, y, 3)
    assert choice is not None
    assert len(choice.mixture) > 1  # sixty photos do not tell them apart
    penalties, weights = zip(*choice.mixture, strict=True)
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= 0.01
    assert choice.penalty in penalties
    assert fit.penalty == penalties[np.argmax(weights)]
    kernels = [fit_linear(x, y, 3, penalty=penalty, solver="logistic").kernel for penalty in penalties]
    np.testing.assert_allclose(fit.kernel, np.average(kernels, axis=0, weights=weights), atol=2e-4)
    again, none = fit_chosen(x, y, 3, Recipe(penalty=choice.mixture))
    assert none is None
    np.testing.assert_array_equal(again.kernel, fit.kernel)


def test_more_photos_tell_penalties_apart() -> None:
    few, many = (choose_penalty(*blobs(photos, apart=0.4), 3) for photos in (20, 1000))
    heaviest = [max(weight for _, weight in choice.mixture) for choice in (few, many)]
    assert heaviest[0] < heaviest[1]


def test_views_of_a_photo_count_once() -> None:
    x, y = blobs(apart=0.4)
    rows, labels, groups = np.tile(x, (2, 1)), np.tile(y, 2), [str(i) for i in range(len(y))] * 2
    once = choose_penalty(rows, labels, 3, Recipe(views=2), groups=groups)
    as_more_photos = choose_penalty(rows, labels, 3, groups=groups)
    # the fewer the photos, the more penalties are worth trying
    both = zip(once.tried, as_more_photos.tried, strict=False)
    assert all(one == pytest.approx(other) for one, other in both)
    assert max(weight for _, weight in once.mixture) < max(weight for _, weight in as_more_photos.mixture)


def test_a_given_penalty_is_taken() -> None:
    x, y = blobs()
    fit, choice = fit_chosen(x, y, 3, Recipe(solver="ridge", penalty=0.5))
    assert (fit.penalty, fit.solver, choice) == (0.5, "ridge", None)


def test_nested_scores_of_noise_are_no_better_than_chance_and_of_classes_apart_are_good() -> None:
    noise = np.random.default_rng(3).normal(size=(90, 200)).astype(np.float32)
    y = np.arange(90) % 3
    guessed = cross_validate(noise, y, 3).probabilities
    np.testing.assert_allclose(guessed.sum(axis=1), 1)
    assert log_loss(guessed, y) > 0.95 * np.log(3)
    x, y = blobs(apart=2.0)
    assert (cross_validate(x, y, 3).probabilities.argmax(axis=1) == y).mean() > 0.95


def test_copies_of_a_photo_in_one_group_do_not_flatter() -> None:
    generator = np.random.default_rng(4)
    base, labels = generator.normal(size=(30, 50)).astype(np.float32), np.arange(30) % 2
    x, y = np.repeat(base, 3, axis=0), np.repeat(labels, 3)  # noise, each photo three times
    groups = [f"g{i // 3}" for i in range(90)]
    together = cross_validate(x, y, 2, groups=groups).probabilities
    apart = cross_validate(x, y, 2).probabilities
    assert (apart.argmax(axis=1) == y).mean() > 0.9  # copies on both sides: as if it knew
    assert (together.argmax(axis=1) == y).mean() < 0.7


def test_too_few_photos_to_choose_a_penalty_are_named_without_features() -> None:
    labels, says = np.arange(2), "2 training photos cannot be cross-validated; give `penalty:` or more photos"
    with pytest.raises(ValueError, match=says):
        check_leaving_out(labels, Recipe())
    check_leaving_out(labels, Recipe(penalty=1.0))
    check_leaving_out(np.array([0, 1, 0, 1]), Recipe())


def test_a_class_that_a_fold_lacks_has_a_finite_loss() -> None:
    x, _ = blobs()
    y = np.zeros(60, np.int64)
    y[30:], y[0] = 1, 2  # one photo of class 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = choose_penalty(x, y, 3)
    assert np.isfinite(choice.log_loss)


def test_a_class_without_training_photos_is_never_the_answer() -> None:
    x, y = blobs()
    for labels in (y // 2, y * 2 % 3 * 0, y):  # two classes, one class, three classes of five
        probabilities = fit_linear(x, labels, 5, penalty=0.1, solver="logistic").probabilities(x)
        assert np.isfinite(np.log(probabilities)).all()
        assert probabilities[:, labels.max() + 1 :].max() < 1e-4


def test_nearest_neighbours_by_direction() -> None:
    x = np.array([[1, 0], [2, 0.1], [0, 1], [0, 3]], np.float32)
    y = np.array([5, 5, 7, 7])
    labels = nearest_labels(x, y, np.array([[10, 0], [0.1, 9]], np.float32))
    assert labels.tolist() == [5, 7]
    assert nearest_labels(x, y, x[:0]).tolist() == []
    with pytest.raises(ValueError, match="no photos to be near to"):
        nearest_labels(x[:0], y[:0], x)
