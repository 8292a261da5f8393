"""Several backbones as one: planned, built, frozen and saved as any other, each part fed as it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers_plugins import invoke

from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.errors import ConfigError

PLUGIN = Path("two_backbones.py")
TWO = """
import dataclasses
import functools
from finetunekit import Backbone, BackboneSpec, Options, PixelContract, hookimpl

SPEC = BackboneSpec(
    title="Red", pixels=PixelContract(order="bgr", mean=(104.0, 117.0, 123.0), std=(64.0, 64.0, 32.0)), native_size_px=8, min_size_px=8,
    parameters=10, licence="MIT", attribution="by A", pretrained_on="nothing", published="none", reference="none", crop_pct=0.5)
BLUE = dataclasses.replace(SPEC, title="Blue", pixels=PixelContract(scale=1 / 255), native_size_px=16, licence="CC0-1.0", crop_pct=0.75)

def build(channels, options: Options, image_size_px: int) -> Backbone:
    import keras
    pixels = keras.Input((image_size_px, image_size_px, 3), name="input")
    x = keras.layers.Conv2D(channels, 3, name="first")(pixels)
    x = keras.layers.BatchNormalization(name="norm")(x) + 1.0
    x = keras.layers.Conv2D(channels, 3, name="last")(x)
    return Backbone(keras.Model(pixels, x), "map", {"one": ("first", "norm"), "two": ("last",)})

@hookimpl
def register_backbones(register):
    register("red", functools.partial(build, 4), spec=SPEC)
    register("blue", functools.partial(build, 5), spec=BLUE)
"""
YAML = """
name: joined
plugins: [two_backbones.py]
backbones: [red, blue]
weights: {mode: random}
head: {name: linear}
stages: [{kind: solve}]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PLUGIN.write_text(TWO, encoding="utf-8")
    Path("joined.yaml").write_text(YAML, encoding="utf-8")


def planned(*settings: str) -> Plan:
    return prepare("joined.yaml", settings=settings)[0]


def test_the_plan_has_every_part_and_takes_the_photo_as_the_largest_would() -> None:
    plan = planned("pixels.fit=crop")
    assert plan.backbone.name == "red+blue"
    assert [part.name for part in plan.parts] == ["red", "blue"]
    assert (plan.config.pixels.size_px, plan.config.pixels.crop_pct) == (16, 0.75)
    assert (plan.spec.licence, plan.spec.attribution, plan.spec.parameters) == ("MIT; CC0-1.0", "by A", 20)
    assert [c["name"] for c in plan.to_dict()["components"] if c["kind"] == "backbone"] == ["red", "blue"]
    shown = invoke("plan", "joined.yaml").stdout
    assert "backbone          red  from" in shown
    assert "backbone          blue  from" in shown


def test_one_backbone_named_later_stands_for_several_and_the_other_way_round() -> None:
    alone = planned("backbone={name: blue}")
    assert (alone.backbone.name, alone.parts, alone.config.backbones) == ("blue", (), ())
    again = planned("backbone={name: blue}", "backbones=[blue, red]")
    assert (again.backbone.name, again.config.backbone) == ("blue+red", None)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["backbones=[red]"], r"backbones needs two names or more, each once"),
        (["backbones=[red, red]"], r"each once"),
        (["backbones=[red, bleu]"], r"unknown backbone 'bleu'. Did you mean 'blue'\?"),
        (["backbones=null"], r"backbone: is required"),
        (["weights={mode: pretrained, path: x.npz}"], r"weights.path and weights.package are one backbone's"),
        (["pixels.contract=zero_to_one"], r"pixels.contract has to be backbone"),
        (["pixels.size_px=8", "backbones=[]"], r"backbone: is required"),
    ],
)
def test_what_cannot_be_joined_is_refused(settings: Sequence[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        planned(*settings)


def test_each_part_is_fed_as_it_was_trained_and_the_whole_is_saved(tmp_path: Path) -> None:
    import keras

    from finetunekit.evaluation.gradcam import find_map_layer
    from finetunekit.models.classifier import build_backbone
    from finetunekit.models.freezing import describe_layers

    backbone = build_backbone(planned().network, "float32")
    photos = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)
    found = backbone.model(photos).numpy()
    assert found.shape == (2, 9)
    layers = {layer.name: layer for layer in backbone.model.layers}

    def alone(name: str, fed: np.ndarray) -> np.ndarray:
        x = layers[f"{name}_norm"](layers[f"{name}_first"](fed)) + 1.0
        return np.asarray(layers[f"{name}_last"](x)).mean(axis=(1, 2))

    small = np.asarray(keras.ops.image.resize(photos, (8, 8)))[..., ::-1]
    red = alone("red", (small - np.float32([104, 117, 123])) / np.float32([64, 64, 32]))
    assert np.allclose(found, np.concatenate([red, alone("blue", photos / 255)], axis=1), atol=1e-4)

    blocks = {layer.path: layer.block for layer in describe_layers(backbone) if layer.block}
    assert blocks == {
        f"{name}_{part}": b
        for name in ("red", "blue")
        for part, b in (("first", "one"), ("norm", "one"), ("last", "two"))
    }
    layer = find_map_layer(backbone.model)
    assert layer is not None
    assert layer.name == "blue_last"
    backbone.model.save(tmp_path / "saved.keras")
    again = keras.models.load_model(tmp_path / "saved.keras", compile=False, safe_mode=True)
    assert np.array_equal(again(photos).numpy(), found)


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        (["pixels.fit=crop"], 10),  # 16 px hold .75 of the photo's short side; red was scored on .5 of it
        (["pixels={fit: crop, crop_pct: 0.75}"], 10),
        (["pixels={fit: crop, crop_pct: 1}"], 16),
        (["pixels.fit=pad"], 16),
    ],
)
def test_each_part_sees_as_much_of_a_photo_as_it_was_scored_on(settings: Sequence[str], side: int) -> None:
    import keras

    from finetunekit.models.classifier import build_backbone

    model = build_backbone(planned(*settings).network, "float32").model
    photos = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3)).astype(np.float32)
    margin = (16 - side) // 2
    seen = photos[:, margin : 16 - margin, margin : 16 - margin]
    fed = keras.Model(model.input, model.get_layer("red_rescaling").output)(photos)
    expected = np.asarray(keras.ops.image.resize(seen, (8, 8)))[..., ::-1]
    assert np.allclose(fed, (expected - np.float32([104, 117, 123])) / np.float32([64, 64, 32]), atol=1e-4)


@pytest.mark.slow
def test_a_run_of_two_is_compared_loaded_and_exported_as_any_other(tmp_path: Path, own_cache: Path) -> None:
    import finetunekit as ftk
    from finetunekit.system.progress import Progress

    drawn = "{per_class_train: 6, per_class_valid: 2, per_class_test: 2, size_px: 24}"
    settings = ["data.source=drawn", f"data.options={drawn}", "data.audit.gate='off'"]
    quiet = Progress(is_quiet=True)
    settings += ["pixels.fit=crop", "evaluate.flip=true"]
    result = ftk.run("joined.yaml", settings=settings, out=tmp_path / "runs", progress=quiet)
    # the cut of the run is where the baselines read their features: nothing lies between
    assert ftk.FinishedRun(result.path).optional("baselines.json") is not None
    loaded = ftk.load(result.path)
    rows = [row for row in loaded.run.predictions if row["split"] == "test"]
    (again,) = loaded.predict([loaded.run.photo_path(rows[0]["path"])])
    assert again.label == rows[0]["predicted"]
    assert loaded.run.state["stages"][0]["solve"]["channels"] == 9
    baselines = loaded.run.optional("baselines.json") or {}
    assert (
        sum(bool(one.get("accuracy")) for one in baselines["baselines"]) >= 3
    )  # majority, neighbour, logistic regression
    assert (loaded.run.optional("gradcam.json") or {"layer": "blue_last"})["layer"] == "blue_last"
    exported = loaded.export("savedmodel", into=tmp_path / "exported", progress=quiet)
    assert exported.certificate["network"]["largest_difference"] < 1e-5
    assert exported.certificate["points"]["probes"]["square"]["largest_difference"] <= 1
