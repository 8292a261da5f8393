"""One fine-tune on several devices: the result of one device, whatever their number. The processor is two of them here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from numpy.typing import NDArray

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.config.training_sections import FitStage, OptimizerSection, ScheduleSection
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.engine.api import resume
from finetunekit.errors import RunFolderError
from finetunekit.models import conv_gradient
from finetunekit.runs.config_diff import config_key
from finetunekit.runs.reproducibility import compare_bits
from finetunekit.system.progress import Progress
from finetunekit.training.batches import Draws, FeatureFeed, MappedViews
from finetunekit.training.devices import Devices, open_devices, shares_of
from finetunekit.training.fit import run_fit
from finetunekit.training.shared_step import shared_layers
from finetunekit.training.stage_job import FitJob, Row, StageState
from finetunekit.training.step_timing import Unscored
from finetunekit.training.validation import Validator

TOLERANCE = 1e-6
PHOTOS = 6  # in batches of 5: the last has one photo, fewer than there are devices


@dataclasses.dataclass
class Kept:
    """Every epoch, with the weights at its end."""

    model: Any
    epochs: list[tuple[Row, StageState, list[NDArray[Any]]]] = dataclasses.field(default_factory=list)

    def keep(self, row: Row, state: StageState) -> None:
        state = dataclasses.replace(state, optimizer=[np.array(array) for array in state.optimizer])
        self.epochs.append((row, state, [variable.numpy() for variable in self.model.variables]))

    def name_photos(self, indices: Any) -> str:
        return str(indices)


def build_network() -> keras.Model:
    keras.utils.set_random_seed(3)
    x = given = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", kernel_regularizer=keras.regularizers.L2(0.01))(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.SpatialDropout2D(0.3)(keras.layers.ReLU()(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.DepthwiseConv2D(3)(x))
    return keras.Model(given, keras.layers.Dense(3)(keras.layers.Dropout(0.4)(x)))


def train(devices: Devices | None, epochs: int = 3, left: Any = None) -> Kept:
    with devices.scope() if devices else keras.name_scope("one"):
        model = build_network()
    if left is not None:
        for variable, array in zip(model.variables, left[2], strict=True):
            variable.assign(array)
    generator, kept = np.random.default_rng(0), Kept(model)
    pixels = generator.normal(size=(PHOTOS, 6, 6, 3)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[generator.integers(0, 3, PHOTOS)]
    photos = DecodedPhotos(np.zeros((3, 1, 1, 3), np.uint8), np.zeros(3, np.int64), ("a", "b", "c"))
    section = OptimizerSection(
        learning_rate=0.1, momentum=0.9, clip_norm=0.5, schedule=ScheduleSection(name="cosine"), weight_decay=0.01
    )
    run_fit(
        FitJob(
            stage=FitStage(name="s", epochs=epochs, optimizer=section, label_smoothing=0.1),
            model=model,
            rates={v.path: 0.5 if "conv" in v.path else 1.0 for v in model.trainable_weights},
            feed=FeatureFeed(
                MappedViews([(pixels,)]), labels, Draws(photos=PHOTOS, draws=None, batch_size=5, seed=0, view_seed=0)
            ),
            validator=Validator(Unscored(3), photos, None, 0),
            first_epoch=0,
            total_epochs=epochs,
            sink=kept,
            progress=Progress(is_quiet=True),
            class_weights=np.array([1.0, 2.0, 0.5], np.float32),
            resume=left[1] if left else None,
            devices=devices,
        )
    )
    return kept


def check_close(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for (row, state, weights), (row_of_one, state_of_one, weights_of_one) in zip(ours, theirs, strict=True):
        for column in ("loss", "log_loss", "learning_rate"):
            assert row[column] == pytest.approx(row_of_one[column], rel=TOLERANCE), column
        assert (row["correct"], row["draws"]) == (row_of_one["correct"], row_of_one["draws"])
        pairs = zip([*state.optimizer, *weights], [*state_of_one.optimizer, *weights_of_one], strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE)


def test_two_devices_take_turns_with_one_and_all_train_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    two, traced, gradient = open_devices(2, 5), [], conv_gradient._kernel_gradient
    assert two is not None
    assert two.names == ("CPU:0", "CPU:1")
    alone = train(None)
    assert len({row["loss"] for row, _, _ in alone.epochs}) == 3
    monkeypatch.setattr(conv_gradient, "_kernel_gradient", lambda *given: traced.append(1) or gradient(*given))
    # statistics of BatchNorm and the state of dropout are among the variables: an epoch here, two there, and the last one here again
    shared = train(two, left=alone.epochs[0])
    assert len(traced) == 4  # the fast gradient of the convolution, on both devices, for both sizes of a batch
    check_close(shared.epochs, alone.epochs[1:])
    check_close(train(None, left=shared.epochs[0]).epochs, alone.epochs[2:])
    assert not any("call" in vars(layer) for layer in shared.model.layers)
    assert not any("_moments" in vars(layer) for layer in shared.model.layers)


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
def test_every_row_of_a_batch_counts_once(devices: int) -> None:
    for size in range(1, 20):
        shares = shares_of(size, devices)
        assert len(shares) == devices
        counts = np.zeros(size)
        for share in shares:
            counts[share] += 1
        assert counts.tolist() == [devices if size < devices else 1] * size
        sizes = [share.stop - share.start for share in shares]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (lambda: keras.layers.GaussianNoise(0.1), "GaussianNoise.*draws random numbers"),
        (lambda: keras.layers.Dense(3, activity_regularizer="l2"), "Dense.*depends on the photos"),
    ],
)
def test_a_layer_that_would_depend_on_the_devices_is_refused(layer: Callable[[], Any], why: str) -> None:
    import threading

    model = keras.Sequential([keras.Input((4,)), layer()])
    with pytest.raises(ftk.RunError, match=f"{why}.*train.devices: 1"), shared_layers(model, threading.local()):
        pass


def test_devices_that_are_not_there_are_one_line() -> None:
    there = len(tf.config.list_logical_devices("CPU"))
    with pytest.raises(
        ftk.ConfigError, match=f"3 are asked for, and TensorFlow sees {there} .*Set train.devices: {there}"
    ):
        open_devices(3, 8)
    with pytest.raises(ftk.ConfigError, match="1 photo a step cannot be dealt to 2 devices"):
        open_devices("all", 1)
    assert open_devices(1, 1) is None


STOP = """
from finetunekit import hookimpl
@hookimpl
def after_epoch(row, run_path):
    if row["epoch"] == 1:
        raise KeyboardInterrupt
"""


def test_a_run_that_two_devices_began_and_one_ended_is_the_run_of_one(finished_run: Path, tiny_yaml: Path) -> None:
    (tiny_yaml.parent / "stop.py").write_text(STOP)
    tiny_yaml.write_text(tiny_yaml.read_text().replace("plugins: [", "plugins: [./stop.py, "))
    quiet, out = Progress(is_quiet=True), tiny_yaml.parent / "runs"
    with pytest.raises(ftk.ConfigError, match="devices: 6 cannot share batch_size: 5"):
        ftk.run(str(tiny_yaml), settings=["train.devices=6"], out=out, progress=quiet)
    with pytest.raises(KeyboardInterrupt):
        ftk.run(str(tiny_yaml), settings=["train.devices=all"], out=out, progress=quiet)
    (path,) = out.iterdir()
    run, alone = ftk.FinishedRun(path), ftk.FinishedRun(finished_run)
    assert run.environment["training_devices"] == "CPU:0, CPU:1"
    with pytest.raises(RunFolderError, match=r"training_devices \(CPU:0, CPU:1 → nothing\)"):
        resume(path, progress=quiet, devices=1)
    done = CliRunner().invoke(main, ["resume", str(path), "--devices", "1", "--force", "--quiet"])
    assert done.exit_code == 0, done.output
    run = ftk.FinishedRun(path)
    assert run.config["train"]["devices"] == 1
    assert len(run.epochs) == 2
    assert any("train.devices (all → 1)" in change for change in run.state["forced"])
    assert compare_bits(alone, run).largest < TOLERANCE


def test_the_plan_shows_devices(tiny_yaml: Path) -> None:
    done = CliRunner().invoke(main, ["plan", str(tiny_yaml), "--set", "train.devices=all"])
    assert "  devices: all\n" in done.stdout
    assert "note: train.devices: all devices of this machine share each batch of 5 photos" in done.stdout


def test_another_number_of_devices_is_no_other_recipe() -> None:
    keys = {config_key({"seed": 1, "train": {"batch_size": 8, "devices": devices}}) for devices in (1, 2, "all")}
    assert keys == {config_key({"seed": 2, "train": {"batch_size": 8}})}
