"""The letter of the experiment, point by point (docs/reproduction.md has the sources)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetunekit_builtin.felids import CLASSES, write_drawn_photos

import finetunekit as ftk
from finetunekit.config.planning import prepare
from finetunekit.data.decoded_photos import DecodedPhotos, PixelStore
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
PRESET = str(Path(__file__).parents[2] / "presets" / "felidae4.yaml")


@pytest.fixture(scope="module")
def felids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("felids") / "images"
    write_drawn_photos(folder, seed=0, per_class={"train": 8, "valid": 2, "test": 3}, size_px=75)
    return folder


def test_the_plan_is_the_experiment() -> None:
    plan, _ = prepare(PRESET, progress=QUIET)
    config = plan.config
    (stage,) = config.stages
    assert (plan.backbone.name, plan.head.name) == ("vgg16", "gap_dense")
    assert plan.head.options.model_dump() == {"units": 1024, "activation": "relu", "dropout": 0.0}
    freeze = plan.stages[0].freeze
    assert freeze is not None
    assert (freeze.name, freeze.options.model_dump()) == ("first_n", {"n": 15})
    assert stage.epochs == 50
    assert (stage.optimizer.name, stage.optimizer.learning_rate, stage.optimizer.momentum) == ("sgd", 1e-4, 0.9)
    assert (config.pixels.size_px, config.pixels.resize, config.pixels.contract) == (100, "nearest", "zero_to_one")
    assert (config.train.batch_size, config.train.draws_per_epoch, config.train.validation_draws) == (32, 1584, 360)
    (augment,) = plan.augment
    given = {name: getattr(augment.options, name) for name in augment.options.model_fields_set}
    assert (augment.name, given) == (
        "keras_generator",
        {"shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True},
    )
    assert config.expected is not None
    assert (config.expected.correct, config.expected.photos) == (147, 160)


def test_first_15_layers_stay_bit_equal_while_block_5_and_the_head_move(felids: Path, tmp_path: Path) -> None:
    settings = [
        f"data.root={felids}",
        "weights.mode=random",
        "stages[0].epochs=1",
        "stages[0].optimizer.learning_rate=0.01",
        "train={draws_per_epoch: 32, validation_draws: null}",
        "pixels.size_px=40",  # which layers move does not depend on it
        "insights={baselines: false, gradcam_photos: 0}",
        "reports=[]",
    ]
    result = ftk.run(PRESET, settings=settings, out=tmp_path, progress=QUIET)
    before, after = initial_weights(), saved_weights(result.path)
    frozen = [name for name in before if name.split("/")[0] < "block5"]
    assert len(frozen) == 20  # ten convolutions, kernel and bias
    assert all(np.array_equal(before[name], after[name]) for name in frozen)
    for name in ("block5_conv1/kernel", "block5_conv3/bias", "hidden/kernel", "logits/bias"):
        assert not np.array_equal(before[name], after[name]), name
    assert ftk.FinishedRun(result.path).classes == CLASSES


def initial_weights() -> dict[str, Any]:
    """Weights as the run made them before training: the same seed gives the same ones."""
    from finetunekit.models.classifier import build_classifier
    from finetunekit.system.environment import prepare_tensorflow

    plan, _ = prepare(PRESET, progress=QUIET)
    prepare_tensorflow(seed=plan.config.seed, is_deterministic=True)
    classifier = build_classifier(plan.network, 4, "float32")
    return {v.path: v.numpy() for v in classifier.probabilities.weights}


def saved_weights(path: Path) -> dict[str, Any]:
    import keras

    return {v.path: v.numpy() for v in keras.models.load_model(path / "model.keras", compile=False).weights}


def test_an_epoch_is_1584_training_and_360_validation_draws(tmp_path: Path, tiny_yaml: Path) -> None:
    """600 photos to train on and 200 to validate on, at 8 px, under the preset's own `train` section."""
    from conftest import write_counted_photos

    root = write_counted_photos(tmp_path / "images", {"train": 150, "valid": 50, "test": 40}, CLASSES)
    train = prepare(PRESET, progress=QUIET)[0].config.train
    settings = [
        f"data.root={root}",
        f"train={{batch_size: 32, draws_per_epoch: {train.draws_per_epoch}, validation_draws: {train.validation_draws}}}",
        "stages[0].epochs=1",
    ]
    result = ftk.run(str(tiny_yaml), settings=settings, out=tmp_path / "runs", progress=QUIET)
    (row,) = ftk.FinishedRun(result.path).epochs
    assert (row["draws"], row["val_draws"], row["val_photos"]) == ("1584", "360", "200")
    assert result.metrics["last_epoch"]["val_draws"] == 360
    assert result.metrics["valid"]["photos"] == 200
    assert result.metrics["test"]["photos"] == 160


def test_pixels_are_those_of_keras_generator(felids: Path) -> None:
    """Pillow's decoder, nearest resize, 1/255, class and file order: bit-equal to flow_from_directory without augmentation."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorflow.keras.preprocessing.image import ImageDataGenerator

        flow = ImageDataGenerator(rescale=1.0 / 255).flow_from_directory(
            felids / "test", target_size=(100, 100), shuffle=False, batch_size=12, interpolation="nearest"
        )
        theirs, labels = next(flow)
    from finetunekit.config.pixel_contract import contract_of
    from finetunekit.data.decode import load_photos
    from finetunekit.data.index import build_index
    from finetunekit.data.listing import list_photos
    from finetunekit.models.preprocessing import as_input

    plan, _ = prepare(PRESET, settings=[f"data.root={felids}"], progress=QUIET)
    index = build_index(list_photos(plan, QUIET), max_pixels=10**6)
    paths = [photo.path for photo in index.split("test")]
    pixels = load_photos(paths, size_px=100, resize="nearest", fit="stretch", max_pixels=10**6)
    ours = as_input(pixels, contract_of(plan.config.pixels, plan.spec))
    assert np.array_equal(ours, theirs)
    assert np.array_equal(index.labels("test"), labels.argmax(axis=1))
    assert flow.class_indices == {name: i for i, name in enumerate(index.classes)}


def test_the_test_split_reaches_no_network_before_the_last_epoch(
    tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pixels are asked for only when every epoch has its line in the log."""
    out, asked, split_of = tiny_yaml.parent / "runs", [], PixelStore.split

    def noted(store: PixelStore, name: str) -> DecodedPhotos:
        logged = [line for log in out.glob("*/epochs.csv") for line in log.read_text().splitlines()[1:]]
        asked.append((name, len(logged)))
        return split_of(store, name)

    monkeypatch.setattr(PixelStore, "split", noted)
    ftk.run(str(tiny_yaml), out=out, progress=QUIET)
    assert {epochs for name, epochs in asked if name == "test"} == {2}
    assert {epochs for name, epochs in asked if name == "train"} >= {0}


def test_the_stand_in_takes_the_place_of_missing_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from finetunekit.data.listing import list_photos

    monkeypatch.chdir(tmp_path)
    plan, _ = prepare("felidae4", progress=QUIET)
    listing = list_photos(plan, Progress())
    assert listing.stand_in is not None
    assert "not photos" in listing.stand_in
    counts = {s: sum(p.split == s for p in listing.photos) for s in ("train", "valid", "test", "display")}
    assert counts == {"train": 600, "valid": 200, "test": 160, "display": 160}
