"""Callbacks and schedules: schedules equal their formulas, averages their closed forms, the best epoch comes back bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

import finetunekit as ftk
from finetunekit.config.training_sections import (
    ClassWeightsSection,
    EarlyStoppingSection,
    EmaSection,
    FitStage,
    OptimizerSection,
    ScheduleSection,
)
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.errors import ConfigError
from finetunekit.models.forward import mean_over_flip
from finetunekit.runs.run_record import RunRecord
from finetunekit.statistics import softmax
from finetunekit.system.progress import Progress
from finetunekit.training.batches import Draws, FeatureFeed, MappedViews
from finetunekit.training.callbacks import build_callbacks, callback_arrays, restore_callbacks
from finetunekit.training.fit import run_fit
from finetunekit.training.losses import build_loss, class_weights, sample_weights
from finetunekit.training.schedules import build_schedule, rate_at
from finetunekit.training.stage_job import FitJob, Row, StageState
from finetunekit.training.stage_record import StageRecord
from finetunekit.training.validation import Validator

NAMES = ("cat", "lion", "tiger")


def optimizer(name: str, warmup: float | None = None, rate: float = 0.1) -> OptimizerSection:
    return OptimizerSection(learning_rate=rate, schedule=ScheduleSection(name=name, warmup=warmup))


# ---- schedules -------------------------------------------------------------------------------------------------------------------


def test_cosine_falls_along_half_a_cosine() -> None:
    rates = [rate_at(optimizer("cosine"), step, 10) for step in range(10)]
    np.testing.assert_allclose(rates, [0.05 * (1 + math.cos(math.pi * i / 10)) for i in range(10)])


def test_warmup_rises_in_equal_steps_to_the_rate() -> None:
    rates = [rate_at(optimizer("cosine", 0.4), step, 10) for step in range(10)]
    np.testing.assert_allclose(rates[:4], [0.025, 0.05, 0.075, 0.1])
    np.testing.assert_allclose(rates[4:], [0.05 * (1 + math.cos(math.pi * i / 6)) for i in range(6)])
    constant = [rate_at(optimizer("constant", 0.2), step, 10) for step in range(10)]
    np.testing.assert_allclose(constant, [0.05] + [0.1] * 9)


def test_one_cycle_has_the_numbers_of_pytorch() -> None:
    """`OneCycleLR(max_lr=0.1, total_steps=10)` of PyTorch 2.5, `get_last_lr()` before each step."""
    rates = [rate_at(optimizer("one_cycle"), step, 10) for step in range(10)]
    up = [0.1 / 25 + (0.1 - 0.1 / 25) * (1 - math.cos(math.pi * i / 2)) / 2 for i in range(3)]
    end = 0.1 / 25 / 1e4
    down = [end + (0.1 - end) * (1 + math.cos(math.pi * i / 7)) / 2 for i in range(1, 8)]
    np.testing.assert_allclose(rates, up + down)
    assert rates[0] == pytest.approx(0.004)
    assert rates[2] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(4e-7)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", ["constant", "cosine", "one_cycle"])
def test_schedules_of_few_steps_stay_within_the_rate(name: str, steps: int) -> None:
    rates = [rate_at(optimizer(name, 0.5), step, steps) for step in range(steps)]
    assert all(0 < rate <= 0.1 + 1e-12 for rate in rates)


def test_keras_sees_the_same_rates() -> None:
    section = optimizer("one_cycle")
    schedule = build_schedule(section, 20)
    assert schedule is not None
    seen = [float(schedule(step)) for step in range(20)]
    np.testing.assert_array_equal(seen, np.array([rate_at(section, step, 20) for step in range(20)], np.float32))
    assert float(schedule(25)) == seen[-1]
    assert build_schedule(optimizer("constant"), 20) is None


# ---- a stage ---------------------------------------------------------------------------------------------------------------------


class Network:
    """The model of a stage on ten features; of `losses`, what validation is made to say."""

    def __init__(self, model: Any, features: NDArray[np.float32], losses: tuple[float, ...]) -> None:
        self.model, self.features, self.said = model, features, iter(losses)

    def predict(self, photos: DecodedPhotos, what: str) -> NDArray[np.float32]:
        if len(photos.labels) > 1:
            return np.asarray(self.model(self.features, training=False))
        odds = math.log(math.expm1(next(self.said)))  # the loss of a photo with two classes in question
        return np.array([[0.0, odds, -1e9]], np.float32)


class Kept(list[tuple[Row, StageState, list[NDArray[Any]]]]):
    """Every epoch, with the weights as they were then."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def keep(self, row: Row, state: StageState) -> None:
        self.append((row, state, [v.numpy().copy() for v in self.model.trainable_weights]))

    def name_photos(self, indices: Sequence[int]) -> str:
        return str(indices)


def record_of(stage: FitStage) -> StageRecord:
    """The record of a stage, of which nothing is written."""
    run = RunRecord(Path(), {"stages": [{}]}, pending={})
    return StageRecord(run, 0, stage.name, "the untrained head", Progress(is_quiet=True))


def build_job(stage: FitStage, *, losses: tuple[float, ...] = (), resume: StageState | None = None) -> Any:
    """A stage of a linear model on ten features, the epochs that it keeps, and its entry in `run.json`."""
    import keras

    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    generator = np.random.default_rng(0)
    features = generator.normal(size=(10, 4)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[np.arange(10) % 3]
    photos = DecodedPhotos(np.zeros((10, 1, 1, 3), np.uint8), np.zeros(10, np.int64), tuple("abcdefghij"))
    validator = Validator(Network(model, features, losses), photos.take([0]) if losses else photos, None, 0)
    kept, record = Kept(model), record_of(stage)
    job = FitJob(
        stage=stage,
        model=model,
        rates={v.path: 1.0 for v in model.trainable_weights},
        feed=FeatureFeed(
            MappedViews([(features,)]), labels, Draws(photos=10, draws=None, batch_size=4, seed=0, view_seed=0)
        ),
        validator=validator,
        first_epoch=0,
        total_epochs=stage.epochs,
        sink=kept,
        progress=Progress(is_quiet=True),
        class_weights=class_weights(stage, labels.argmax(axis=1), NAMES),
        callbacks=build_callbacks(stage, model, validator, record),
        resume=resume,
    )
    return job, kept, record.run.state["stages"][0]


def weights_of(job: FitJob) -> list[NDArray[Any]]:
    return [v.numpy() for v in job.model.trainable_weights]


def assert_equal(ours: list[NDArray[Any]], theirs: list[NDArray[Any]]) -> None:
    for first, second in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_log_has_the_rate_of_each_epochs_last_step() -> None:
    section = optimizer("cosine", 0.2)
    job, _, _ = build_job(FitStage(epochs=2, optimizer=section))
    rows = run_fit(job)
    np.testing.assert_allclose(
        [r["learning_rate"] for r in rows], [rate_at(section, 2, 6), rate_at(section, 5, 6)], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "epochs", "best"),
    [
        ((0.9, 0.5, 0.6, 0.7, 0.1), 2, 0.0, 4, 2),
        ((0.9, 0.5, 0.6, 0.4, 0.5), 2, 0.0, 5, 4),
        ((0.9, 0.85, 0.82, 0.1, 0.1), 2, 0.2, 3, 1),
        ((0.9, 0.5, 0.6, 0.7, 0.8), None, 0.0, 5, 2),
    ],
)
def test_early_stopping_brings_the_best_epoch_back_bit_for_bit(
    losses: tuple[float, ...], patience: int | None, min_delta: float, epochs: int, best: int
) -> None:
    stopping = EarlyStoppingSection(patience=patience, min_delta=min_delta)
    job, kept, told = build_job(FitStage(epochs=5, early_stopping=stopping), losses=losses)
    assert len(run_fit(job)) == epochs
    assert_equal(weights_of(job), kept[best - 1][2])
    assert told["early_stopping"] == {"monitor": "val_loss", "best_epoch": best, "is_restored": True}


def test_without_restore_best_the_last_weights_stay() -> None:
    stopping = EarlyStoppingSection(patience=1, restore_best=False)
    job, kept, _ = build_job(FitStage(epochs=5, early_stopping=stopping), losses=(0.5, 0.9, 0.1))
    run_fit(job)
    assert_equal(weights_of(job), kept[1][2])


def test_the_moving_average_equals_its_closed_form() -> None:
    job, _, _ = build_job(FitStage(epochs=2, ema=EmaSection(decay=0.9), optimizer=OptimizerSection(learning_rate=0.5)))
    average, path = [w.astype(np.float64) for w in weights_of(job)], []
    callback = job.callbacks[0]
    step = callback.after_step
    callback.after_step = lambda number: (step(number), path.append(weights_of(job)))[0]
    rows = run_fit(job)
    for number, weights in enumerate(path, start=1):
        decay = min(0.9, (1 + number) / (10 + number))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, weights, strict=True)]
    assert len(path) == 6
    for ours, closed, last in zip(weights_of(job), average, path[-1], strict=True):
        np.testing.assert_allclose(ours, closed, atol=1e-6)
        assert not np.allclose(ours, last)
    # validation was the average's as well
    assert rows[-1]["val_loss"] == pytest.approx(job.validator.row(1)["val_loss"], rel=1e-5)


def test_early_stopping_keeps_the_average_that_was_validated() -> None:
    stage = FitStage(epochs=3, ema=EmaSection(decay=0.5), early_stopping=EarlyStoppingSection(patience=1))
    job, kept, _ = build_job(stage, losses=(0.5, 0.9))
    run_fit(job)
    best = kept[0][1].callbacks
    assert_equal(weights_of(job), [best["ema/average_0"], best["ema/average_1"]])


@pytest.mark.parametrize("callback", [{}, {"ema": EmaSection(decay=0.5)}])
def test_interpolation_ends_on_the_line_from_the_weights_before(callback: Any) -> None:
    def weights_with(share: float) -> list[Any]:
        job, _, _ = build_job(FitStage(epochs=2, interpolate=share, **callback))
        before = [np.array(array) for array in weights_of(job)]
        run_fit(job)
        return [before, weights_of(job)]

    (before, whole), (_, part) = weights_with(1), weights_with(0.25)
    for start, end, ours in zip(before, whole, part, strict=True):
        assert not np.array_equal(start, end)
        np.testing.assert_array_equal(ours, start + np.float32(0.25) * (end - start))


def test_interpolation_refuses_statistics_that_move() -> None:
    import keras

    stage = FitStage(interpolate=0.5)
    validator = build_job(stage)[0].validator
    model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    with pytest.raises(ConfigError, match="interpolate: BatchNorm statistics move here"):
        build_callbacks(stage, model, validator, record_of(stage))
    model.layers[0].trainable = False
    assert build_callbacks(stage, model, validator, record_of(stage))


@pytest.mark.parametrize(
    "stage",
    [
        FitStage(epochs=4, interpolate=0.5, ema=EmaSection(decay=0.9)),
        FitStage(epochs=4, early_stopping=EarlyStoppingSection(patience=3), optimizer=optimizer("one_cycle")),
        FitStage(epochs=4, ema=EmaSection(decay=0.9), early_stopping=EarlyStoppingSection(patience=3)),
        FitStage(epochs=4, ema=EmaSection(decay=0.5), optimizer=OptimizerSection(name="adamw", clip_norm=0.1)),
    ],
)
def test_a_resumed_stage_ends_with_the_same_bits(stage: FitStage) -> None:
    whole, kept, _ = build_job(stage)
    run_fit(whole)
    _, state, weights = kept[1]
    resumed, _, _ = build_job(stage, resume=state)
    for variable, array in zip(resumed.model.trainable_weights, weights, strict=True):
        variable.assign(array)
    run_fit(resumed)
    assert_equal(weights_of(resumed), weights_of(whole))


def test_state_goes_through_arrays() -> None:
    job, _, _ = build_job(FitStage(epochs=3, ema=EmaSection(), early_stopping=EarlyStoppingSection()))
    run_fit(job)
    arrays = callback_arrays(job.callbacks)
    other, _, _ = build_job(job.stage)
    restore_callbacks(other.callbacks, arrays)
    assert {k: v.tolist() for k, v in callback_arrays(other.callbacks).items()} == {
        k: v.tolist() for k, v in arrays.items()
    }


# ---- the loss --------------------------------------------------------------------------------------------------------------------


def test_label_smoothing_is_keras_own() -> None:
    y, logits = np.eye(3, dtype=np.float32)[:1], np.array([[2.0, 0.0, -1.0]], np.float32)
    log_p = logits[0] - np.log(np.exp(logits[0]).sum())
    expected = -(np.array([0.9, 0, 0]) + 0.1 / 3) @ log_p
    assert float(build_loss(FitStage(label_smoothing=0.1))(y, logits)) == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_count_every_class_alike() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    stage = FitStage(class_weights=ClassWeightsSection(mode="balanced"))
    weights = class_weights(stage, labels, NAMES)
    assert weights is not None
    np.testing.assert_allclose(weights, [8 / 12, 8 / 6, 8 / 6])
    np.testing.assert_allclose(weights * np.bincount(labels), 8 / 3)
    assert weights[labels].mean() == pytest.approx(1)


def test_class_weights_change_the_loss_as_computed_by_hand() -> None:
    rate = OptimizerSection(learning_rate=1e-9)
    named = ClassWeightsSection(mode="named", named={"lion": 3.0})
    plain, _, _ = build_job(FitStage(epochs=1, optimizer=rate))
    weighted, _, _ = build_job(FitStage(epochs=1, optimizer=rate, class_weights=named))
    given = next(iter(plain.feed.batches(0)))
    x = np.concatenate([np.asarray(b.x) for b in plain.feed.batches(0)])
    y = np.concatenate([np.asarray(b.y) for b in plain.feed.batches(0)])
    logits = np.asarray(plain.model(x), np.float64)
    losses = -(y * (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))).sum(axis=1)
    assert len(given.photos) == 4
    assert run_fit(plain)[0]["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert run_fit(weighted)[0]["loss"] == pytest.approx((losses * (y @ [1, 3, 1])).mean(), rel=1e-5)


def test_mixed_labels_are_weighted_in_proportion() -> None:
    mixed = np.array([[0.25, 0.75, 0.0]], np.float32)
    np.testing.assert_allclose(sample_weights(mixed, np.array([1.0, 3.0, 1.0], np.float32)), [2.5])


def test_a_class_that_is_not_there_is_an_error() -> None:
    stage = FitStage(class_weights=ClassWeightsSection(mode="named", named={"tigre": 2.0}))
    with pytest.raises(
        ConfigError, match=r"'tigre' is not a class of these photos \(cat, lion, tiger\)\. Did you mean 'tiger'"
    ):
        class_weights(stage, np.array([0, 1, 2]), NAMES)


def test_names_of_classes_that_would_be_passed_over_are_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="mode: named only"):
        FitStage(class_weights=ClassWeightsSection(named={"cat": 2.0}))


def test_gradients_are_clipped_together() -> None:
    job, _, _ = build_job(FitStage(epochs=1, optimizer=OptimizerSection(learning_rate=1.0, clip_norm=1e-3)))
    before = weights_of(job)
    run_fit(job)
    moved = math.sqrt(sum(float(((a - b) ** 2).sum()) for a, b in zip(weights_of(job), before, strict=True)))
    assert 0 < moved <= 3e-3 + 1e-6  # three steps


# ---- a run -----------------------------------------------------------------------------------------------------------------------


def run_with(tiny_yaml: Path, *settings: str) -> ftk.RunResult:
    asked = ("augment=[]", "stages[0].epochs=3", *settings)
    return ftk.run(str(tiny_yaml), settings=asked, out=tiny_yaml.parent / "runs", progress=Progress(is_quiet=True))


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("cache", ["exact", "off"])
def test_a_run_takes_every_callback_with_and_without_cached_features(tiny_yaml: Path, cache: str) -> None:
    is_flipped = cache == "off"
    result = run_with(
        tiny_yaml,
        f"cache.mode={cache}",
        "stages[0].optimizer.schedule={name: cosine, warmup: 0.1}",
        "stages[0].ema={decay: 0.9}",
        "stages[0].early_stopping={patience: 1}",
        "stages[0].label_smoothing=0.1",
        "stages[0].class_weights={mode: named, named: {red: 2.0}}",
        "train.validation_draws=null",
        f"evaluate.flip={str(is_flipped).lower()}",
    )
    finished = ftk.FinishedRun(result.path)
    record = finished.state["stages"][0]["early_stopping"]
    rows = finished.epochs
    best = min(rows, key=lambda row: float(row["val_loss"]))
    assert record == {"monitor": "val_loss", "best_epoch": int(best["epoch"]), "is_restored": True}
    assert result.metrics["last_epoch"]["epoch"] == record["best_epoch"]
    assert result.metrics["test_time_flip"] is is_flipped
    scored = result.metrics["valid"]["log_loss"]["value"]
    assert (scored == pytest.approx(float(best["val_loss"]), rel=1e-4)) is not is_flipped
    # the saved model is the best epoch's average, and what it says of a photo, and of its mirror image, is what was scored
    loaded = ftk.load(result.path)
    test = [row for row in finished.predictions if row["split"] == "test"]
    root = Path(finished.state["photo_root"])
    again = loaded.probabilities([root / row["path"] for row in test])
    written = [[float(row[f"p_{name}"]) for name in finished.classes] for row in test]
    np.testing.assert_allclose(again, written, atol=1e-6)


def test_the_mean_over_the_flip_is_of_probabilities() -> None:
    photos = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return pixels[:, 0, 0, :2].astype(np.float32)

    own, mirrored = softmax(np.array([[0.0, 1.0]])), softmax(np.array([[9.0, 10.0]]))
    np.testing.assert_allclose(mean_over_flip(predict, photos, is_flipped=True), (own + mirrored) / 2)
    np.testing.assert_allclose(mean_over_flip(predict, photos, is_flipped=False), own)
