"""The loop of a stage, with a callback that follows it, on the tiny network."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from finetunekit.config.training_sections import FitStage, OptimizerSection
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.errors import RunError
from finetunekit.models.weight_arrays import views
from finetunekit.system.memory import free_models
from finetunekit.system.progress import Progress
from finetunekit.training.batches import Batch, Draws, FeatureFeed, MappedViews
from finetunekit.training.callbacks import Callback
from finetunekit.training.fit import Throughput, run_fit
from finetunekit.training.stage_job import FitJob, Row, StageState
from finetunekit.training.step_timing import Unscored
from finetunekit.training.validation import Validator


class SecondEpochWins(Callback):
    """Stops after two epochs and ends with a weight of its own, so that both can be seen from outside."""

    name = "second"

    def __init__(self, model: Any) -> None:
        self.model, self.steps, self.epochs = model, [0], [0]

    def after_step(self, step: int) -> None:
        assert step == self.steps[-1] + 1
        self.steps.append(step)

    def after_epoch(self, row: Mapping[str, Any]) -> bool:
        self.epochs.append(row["epoch"])
        return len(self.epochs) > 2

    def finish(self) -> None:
        self.model.trainable_weights[-1].assign([float(len(self.steps)), -1.0])

    def state(self) -> Mapping[str, NDArray[Any]]:
        return {"steps": np.array(self.steps), "epochs": np.array(self.epochs)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        self.steps, self.epochs = state["steps"].tolist(), state["epochs"].tolist()


class Kept(list[tuple[Row, StageState]]):
    """Every epoch; `weights` holds those of the model at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Any = None
        self.weights: list[list[NDArray[Any]]] = []

    def keep(self, row: Row, state: StageState) -> None:
        self.append((row, state))
        self.weights.append([v.numpy() for v in self.model.variables])

    def name_photos(self, indices: Sequence[int]) -> str:
        return str(indices)


def build_job(epochs: int, kept: Kept, resume: StageState | None = None) -> FitJob:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
    kept.model = model
    generator = np.random.default_rng(0)
    features = generator.normal(size=(10, 4)).astype(np.float32)
    labels = np.eye(2, dtype=np.float32)[generator.integers(0, 2, 10)]
    photos = DecodedPhotos(np.zeros((3, 1, 1, 3), np.uint8), np.zeros(3, np.int64), ("a", "b", "c"))
    return FitJob(
        stage=FitStage(name="s", epochs=epochs, optimizer=OptimizerSection(momentum=0.9)),
        model=model,
        rates={v.path: 1.0 for v in model.trainable_weights},
        feed=FeatureFeed(
            MappedViews([(features,)]), labels, Draws(photos=10, draws=None, batch_size=4, seed=0, view_seed=0)
        ),
        validator=Validator(Unscored(2), photos, None, 0),
        first_epoch=0,
        total_epochs=epochs,
        sink=kept,
        progress=Progress(is_quiet=True),
        callbacks=(SecondEpochWins(model),),
        resume=resume,
    )


def test_a_callback_hears_every_step_and_may_end_the_stage() -> None:
    kept = Kept()
    job = build_job(5, kept)
    assert job.steps_per_epoch == 3
    rows = run_fit(job)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert [state.is_over for _, state in kept] == [False, True]
    assert job.model.trainable_weights[-1].numpy().tolist() == [7.0, -1.0]  # 6 steps; `finish` came last


def test_what_is_left_is_judged_by_steps_whose_graphs_were_there() -> None:
    pace = Throughput(sizes := set())
    assert pace.draw_s(9.0, 3) == 3
    for draws, seconds in ((4, 50.0), (4, 1.0), (2, 70.0), (2, 0.5)):
        pace.step(draws, seconds)
    assert pace.draw_s(121.5, 12) == 0.25
    later = Throughput(sizes)
    later.step(4, 2.0)
    assert later.draw_s(2.0, 4) == 0.5


def test_the_optimizer_goes_with_the_stage() -> None:
    kept = Kept()
    job = build_job(1, kept)
    slots = len(kept[0][1].optimizer) if run_fit(job) else 0
    assert slots > len(job.model.trainable_weights)  # momentum, and the step count
    assert not job.model.compiled
    free_models()
    alive = [o for o in gc.get_objects() if isinstance(o, keras.optimizers.Optimizer)]
    assert not [v for o in alive for v in o._trainable_variables if any(v is w for w in job.model.trainable_weights)]


def test_lent_values_are_those_of_the_variables() -> None:
    for dtype in ("float32", "int64", "bfloat16"):
        variable = keras.Variable(np.ones((2, 3)), dtype=dtype)
        (lent,) = views([variable])
        assert (lent.dtype.name, lent.shape) == (dtype, (2, 3))
        np.testing.assert_array_equal(lent, variable.numpy())


@pytest.mark.parametrize("left_after", [1, 2])
def test_a_stage_goes_on_from_its_state_to_the_same_bits(left_after: int) -> None:
    whole = Kept()
    first = build_job(5, whole)
    run_fit(first)
    second = build_job(5, Kept(), resume=whole[left_after - 1][1])
    for variable, array in zip(second.model.variables, whole.weights[left_after - 1], strict=True):
        variable.assign(array)
    rows = run_fit(second)
    assert [row["epoch"] for row in rows] == [1, 2][left_after:]
    assert [r["loss"] for r in rows] == [row["loss"] for row, _ in whole[left_after:]]
    for ours, theirs in zip(second.model.variables, first.model.variables, strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy()), ours.path


def test_a_stage_that_does_not_learn_says_so_in_its_first_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    import dataclasses

    still = build_job(2, Kept())
    stage = still.stage.model_copy(update={"optimizer": OptimizerSection(learning_rate=1e-9)})
    run_fit(dataclasses.replace(still, stage=stage, callbacks=(), progress=Progress()))
    assert capsys.readouterr().err.count("stage 's' does not learn: its first epoch changed the weights by") == 1
    run_fit(dataclasses.replace(build_job(2, Kept()), callbacks=(), progress=Progress()))
    assert "does not learn" not in capsys.readouterr().err


class SpoiltLater:
    """A feed whose second epoch has a photo of which nothing can be computed."""

    def __init__(self, feed: FeatureFeed) -> None:
        self.feed, self.draws = feed, feed.draws

    def batches(self, epoch: int) -> Iterator[Batch]:
        for number, batch in enumerate(self.feed.batches(epoch)):
            is_spoilt = epoch == 1 and number == 1
            yield Batch(np.full_like(batch.x, np.nan) if is_spoilt else batch.x, batch.y, batch.photos)


def test_a_loss_that_is_not_finite_puts_back_the_last_whole_epoch_and_names_the_cure() -> None:
    import dataclasses

    kept = Kept()
    job = build_job(3, kept)
    job = dataclasses.replace(job, feed=SpoiltLater(job.feed), callbacks=())  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"epoch 2, step 2 \(photos \[\d.*of stage 's' \(now 0\.001; try 0\.0001\)"):
        run_fit(job)
    assert len(kept) == 1
    for ours, theirs in zip(job.model.variables, kept.weights[0], strict=True):
        if ours.trainable:
            assert np.array_equal(ours.numpy(), theirs)
