from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn import metrics

from finetunekit.statistics import (
    class_scores,
    confusion_matrix,
    f1_interval,
    macro_scores,
    summarise_predictions,
    wilson_interval,
)
from finetunekit.statistics.arrays import FloatArray, IntArray


def _predictions(photos: int, num_classes: int = 4, seed: int = 0) -> tuple[FloatArray, IntArray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, photos)
    logits = rng.normal(0, 1.5, (photos, num_classes))
    logits[np.arange(photos), labels] += 2.5
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), labels


def test_scores_agree_with_scikit_learn() -> None:
    probabilities, labels = _predictions(300)
    predicted = probabilities.argmax(axis=1)
    scores = summarise_predictions(probabilities, labels, num_classes=4)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predicted)
    for i, one in enumerate(scores.classes):
        assert one.precision is not None
        assert one.recall is not None
        assert (one.precision.value, one.recall.value, one.f1) == pytest.approx((precision[i], recall[i], f1[i]))
        assert (one.support, one.predicted) == (support[i], (predicted == i).sum())
    assert np.array_equal(scores.confusion, metrics.confusion_matrix(labels, predicted))
    assert scores.macro_f1.value == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    assert scores.macro_recall.value == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert scores.log_loss.value == pytest.approx(metrics.log_loss(labels, probabilities))
    brier = metrics.brier_score_loss(labels, probabilities, labels=[0, 1, 2, 3], scale_by_half=False)
    assert scores.brier.value == pytest.approx(brier)
    for top in scores.top_k:
        assert top.score.value == pytest.approx(metrics.top_k_accuracy_score(labels, probabilities, k=top.k))
    assert [top.k for top in scores.top_k] == [2, 3]


def test_hand_computed_case() -> None:
    # Rows true, columns predicted: class 2 is never predicted, and class 3 has no photos.
    probabilities = np.array(
        [
            [0.7, 0.1, 0.1, 0.1],
            [0.2, 0.6, 0.1, 0.1],
            [0.1, 0.7, 0.1, 0.1],
            [0.4, 0.3, 0.2, 0.1],
            [0.1, 0.2, 0.1, 0.6],
        ]
    )
    labels = np.array([0, 0, 1, 2, 1])
    scores = summarise_predictions(probabilities, labels, num_classes=4)
    assert scores.confusion == ((1, 1, 0, 0), (0, 1, 0, 1), (1, 0, 0, 0), (0, 0, 0, 0))
    assert (scores.accuracy.successes, scores.accuracy.photos, scores.accuracy.value) == (2, 5, 0.4)
    assert scores.accuracy.interval == wilson_interval(2, 5)
    never, empty = scores.classes[2], scores.classes[3]
    assert never.precision is None
    assert never.f1 == 0.0
    assert empty.recall is None
    assert empty.f1 is None
    assert empty.f1_interval is None
    assert empty.precision is not None
    assert (empty.precision.value, empty.precision.photos) == (0.0, 1)
    assert scores.macro_f1.value == pytest.approx((2 / 4 + 2 / 4 + 0) / 3)
    assert scores.macro_recall.value == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert (scores.macro_f1.classes, scores.macro_f1.classes_without_photos) == (3, (3,))
    assert scores.log_loss.value == pytest.approx(-np.log([0.7, 0.2, 0.7, 0.2, 0.2]).mean())
    brier = [0.12, 0.64 + 0.36 + 0.02, 0.12, 0.16 + 0.09 + 0.64 + 0.01, 0.01 + 0.64 + 0.01 + 0.36]
    assert scores.brier.value == pytest.approx(np.mean(brier))
    assert [(top.k, top.score.successes) for top in scores.top_k] == [(2, 4), (3, 5)]


def test_two_classes_have_no_top_k_and_twice_the_binary_brier() -> None:
    probabilities, labels = _predictions(50, num_classes=2)
    scores = summarise_predictions(probabilities, labels, num_classes=2)
    assert scores.top_k == ()
    assert scores.brier.value == pytest.approx(2 * metrics.brier_score_loss(labels, probabilities[:, 1]))


def test_ties_go_to_the_lowest_class_in_accuracy_and_top_k() -> None:
    scores = summarise_predictions(np.full((3, 3), 1 / 3), np.array([0, 1, 2]), num_classes=3)
    assert scores.accuracy.successes == 1
    assert scores.top_k[0].score.successes == 2


def test_a_sure_error_costs_a_bounded_log_loss() -> None:
    scores = summarise_predictions(np.array([[1.0, 0.0]]), np.array([1]), num_classes=2)
    assert scores.log_loss.value == pytest.approx(-np.log(1e-15))
    assert scores.brier.value == 2.0
    assert (scores.brier.interval.low, scores.brier.interval.high) == (0.0, 2.0)


def test_every_value_lies_in_its_interval() -> None:
    for seed in range(5):
        scores = summarise_predictions(*_predictions(40, seed=seed), num_classes=4)
        for part in (scores.macro_f1, scores.macro_recall, scores.log_loss, scores.brier, scores.accuracy):
            assert part.interval.contains(part.value)
        for one in scores.classes:
            assert one.f1 is not None
            assert one.f1_interval is not None
            assert one.f1_interval.contains(one.f1)


def test_a_perfect_sample_is_not_a_certain_one() -> None:
    matrix = np.diag([40, 40, 40, 40])
    f1, recall = macro_scores(matrix, level=0.95, replicates=4000, seed=0)
    assert f1.value == 1.0
    assert f1.interval.high == 1.0
    # Wilson of 160 of 160 is 0.9765: the macro average of equal classes knows about as much.
    assert 0.97 < f1.interval.low < 0.99
    assert 0.97 < recall.interval.low < 0.99
    assert 0.9 < f1_interval(40, 40, 40).low < 0.97


def test_f1_interval_is_wilson_carried_over() -> None:
    star = wilson_interval(8, 8 + 2 + 3)
    interval = f1_interval(8, support=10, predicted=11)
    assert interval.low == pytest.approx(2 * star.low / (1 + star.low))
    assert interval.contains(2 * 8 / 21)


def test_macro_bootstrap_agrees_with_resampling_photos_one_by_one() -> None:
    probabilities, labels = _predictions(400, seed=3)
    predicted = probabilities.argmax(axis=1)
    f1, _ = macro_scores(confusion_matrix(labels, predicted, 4), level=0.95, replicates=8000, seed=0)
    rng = np.random.default_rng(1)
    again = []
    for _ in range(1500):
        drawn = rng.integers(0, 400, 400)
        matrix = confusion_matrix(labels[drawn], predicted[drawn], 4)
        again.append(np.mean([one.f1 for one in class_scores(matrix)]))
    # The two pseudo-photos move the ends by less than half a point at 400 photos.
    assert (f1.interval.low, f1.interval.high) == pytest.approx(np.quantile(again, [0.025, 0.975]), abs=0.006)


def test_many_classes_with_few_photos() -> None:
    probabilities, labels = _predictions(60, num_classes=300)
    scores = summarise_predictions(probabilities, labels, num_classes=300)
    assert scores.macro_f1.classes == len(np.unique(labels))
    assert scores.macro_f1.classes + len(scores.macro_f1.classes_without_photos) == 300
    assert scores.macro_f1.interval.contains(scores.macro_f1.value)


def test_same_seed_same_numbers_and_json() -> None:
    probabilities, labels = _predictions(80)
    first = summarise_predictions(probabilities, labels, num_classes=4, seed=7)
    assert first == summarise_predictions(probabilities, labels, num_classes=4, seed=7)
    assert (
        first.log_loss.interval != summarise_predictions(probabilities, labels, num_classes=4, seed=8).log_loss.interval
    )
    text = json.dumps(asdict(first), allow_nan=False)
    assert json.loads(text)["accuracy"]["photos"] == 80


def test_float32_predictions_are_accepted() -> None:
    probabilities, labels = _predictions(80)
    narrow = summarise_predictions(probabilities.astype(np.float32), labels.astype(np.int32), num_classes=4)
    wide = summarise_predictions(probabilities, labels, num_classes=4)
    assert narrow.confusion == wide.confusion
    assert narrow.log_loss.value == pytest.approx(wide.log_loss.value, rel=1e-5)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "no photos to score"),
        (np.ones((2, 1)), np.zeros(2, int), "2 classes or more"),
        (np.full((2, 3), np.nan), np.zeros(2, int), "finite and not negative"),
        (np.full((2, 3), 0.5), np.zeros(2, int), "must sum to 1. Received a row that is off by 0.5"),
        (np.full((2, 3), 1 / 3), np.zeros(3, int), "one for each photo"),
        (np.full((2, 3), 1 / 3), np.zeros(2), "labels must be integers"),
        (np.full((2, 3), 1 / 3), np.array([0, 3]), r"must lie in \[0, 3\). Received: 0 to 3"),
        (np.full((2, 4), 1 / 4), np.array([0, 3]), "must have 3 columns. Received: 4"),
    ],
)
def test_impossible_arrays_are_refused(probabilities: FloatArray, labels: IntArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise_predictions(probabilities, labels, num_classes=3)
