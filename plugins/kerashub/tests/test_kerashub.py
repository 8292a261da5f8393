from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras_hub = pytest.importorskip("keras_hub")

import keras
from finetunekit_kerashub import SPEC, KerasHubOptions, build_kerashub
from finetunekit_kerashub.__main__ import describe, main

from finetunekit import PluginError
from finetunekit.models.weights import StoredArrays, fit_arrays
from finetunekit.plugins.host import load_plugins
from finetunekit.testing import check_backbone

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE = tuple(1 / 255 / s for s in STD)
OFFSET = tuple(-m / s for m, s in zip(MEAN, STD, strict=True))
PHOTOS = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DINOv2 with random weights, as a folder that KerasHub itself wrote."""
    folder = tmp_path_factory.mktemp("presets") / "dinov2"
    network = keras_hub.models.DINOV2Backbone(
        patch_size=14, num_layers=2, hidden_dim=8, num_heads=2, intermediate_dim=16, image_shape=(28, 28, 3),
        position_embedding_shape=(28, 28, 3),
    )  # fmt: skip
    save(network, keras_hub.layers.DINOV2ImageConverter, folder)
    return folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SigLIP: its image part shares the preset with one for text."""
    folder = tmp_path_factory.mktemp("presets") / "siglip"
    shared: dict[str, Any] = {"hidden_dim": 8, "num_layers": 1, "num_heads": 2, "intermediate_dim": 16}
    network = keras_hub.models.SigLIPBackbone(
        vision_encoder=keras_hub.models.SigLIPVisionEncoder(patch_size=14, image_shape=(28, 28, 3), **shared),
        text_encoder=keras_hub.models.SigLIPTextEncoder(
            vocabulary_size=11, embedding_dim=8, max_sequence_length=4, **shared
        ),
    )
    save(network, keras_hub.layers.SigLIPImageConverter, folder)
    return folder


def save(network: Any, converter: Any, folder: Path) -> None:
    folder.mkdir()
    for variable in network.weights:
        variable.assign(variable + 0.01)
    network.save_to_preset(str(folder))
    converter(image_size=(28, 28), scale=list(SCALE), offset=list(OFFSET)).save_to_preset(str(folder))


def features(model: keras.Model) -> np.ndarray:
    return np.asarray(model(PHOTOS, training=False))


def test_registered_through_the_door_of_strangers(tmp_path: Path) -> None:
    host = load_plugins(print, files=(Path(__file__).parents[1] / "finetunekit_kerashub" / "__init__.py",))
    assert "kerashub" in host.registries["backbone"]


def test_tokens_of_dinov2_are_those_of_keras_hub(dinov2: Path, tmp_path: Path) -> None:
    backbone = build_kerashub(KerasHubOptions(preset=str(dinov2)), 28)
    assert (backbone.kind, backbone.model.output_shape) == ("tokens", (None, 5, 8))  # 4 patches and the class token
    assert main([str(dinov2), str(tmp_path / "dinov2.npz"), "--size", "28"]) == 0
    fit_arrays(backbone.model, StoredArrays(tmp_path / "dinov2.npz"), origin="test")
    theirs = keras_hub.models.Backbone.from_preset(str(dinov2))
    pixels = (PHOTOS / 255 - np.array(MEAN)) / np.array(STD)
    expected = np.asarray(theirs({"images": pixels.astype(np.float32)}, training=False))
    np.testing.assert_allclose(features(backbone.model), expected, rtol=1e-4, atol=1e-4)
    assert list(backbone.blocks)[:1] == ["stem"]
    assert sum(len(paths) for paths in backbone.blocks.values()) > 4


def test_a_description_without_weights_builds_the_network_where_no_hub_is(dinov2: Path, tmp_path: Path) -> None:
    assert main([str(dinov2), str(tmp_path / "dinov2.npz"), "--size", "28"]) == 0
    describe(str(dinov2), tmp_path / "dinov2")
    assert sorted(file.suffix for file in (tmp_path / "dinov2").iterdir()) == [".json"] * 3
    backbone = build_kerashub(KerasHubOptions(preset=str(tmp_path / "dinov2")), 28)
    fit_arrays(backbone.model, StoredArrays(tmp_path / "dinov2.npz"), origin="test")


def test_lora_is_added_to_queries_and_values_and_changes_nothing_at_first(dinov2: Path, tmp_path: Path) -> None:
    assert main([str(dinov2), str(tmp_path / "dinov2.npz"), "--size", "28"]) == 0
    plain, adapted = (build_kerashub(KerasHubOptions(preset=str(dinov2), lora_rank=rank), 28) for rank in (0, 2))
    for backbone in (plain, adapted):
        fit_arrays(backbone.model, StoredArrays(tmp_path / "dinov2.npz"), origin="test")
    np.testing.assert_array_equal(features(adapted.model), features(plain.model))
    added = [variable for variable in adapted.model.weights if variable.name.startswith("lora_")]
    assert len(added) == 2 * 2 * 2  # two layers, queries and values, two matrices each
    assert adapted.model.count_params() - plain.model.count_params() == sum(int(np.prod(v.shape)) for v in added)


def test_dinov2_keeps_the_contract(dinov2: Path) -> None:
    import dataclasses

    spec = dataclasses.replace(SPEC, native_size_px=28, min_size_px=14)
    check_backbone(build_kerashub, KerasHubOptions(preset=str(dinov2)), spec=spec)


def test_siglip_gives_tokens_or_its_own_pooled_vector(siglip: Path) -> None:
    tokens = build_kerashub(KerasHubOptions(preset=str(siglip)), 28)
    assert (tokens.kind, features(tokens.model).shape) == ("tokens", (2, 4, 8))
    pooled = build_kerashub(KerasHubOptions(preset=str(siglip), features="pooled"), 28)
    assert (pooled.kind, pooled.model.output_shape) == ("vector", (None, 8))
    assert tokens.model.count_params() < pooled.model.count_params()
    with pytest.raises(PluginError, match=r"takes 28 px only; pixels.size_px is 42"):
        build_kerashub(KerasHubOptions(preset=str(siglip)), 42)


def test_a_feature_map_stays_a_map(tmp_path: Path) -> None:
    network = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[7], stackwise_num_filters=[64], stackwise_num_blocks=[1],
        stackwise_num_strides=[1], block_type="basic_block", image_shape=(None, None, 3),
    )  # fmt: skip
    save(network, keras_hub.layers.ResNetImageConverter, tmp_path / "resnet")
    backbone = build_kerashub(KerasHubOptions(preset=str(tmp_path / "resnet")), 28)
    assert (backbone.kind, backbone.model.output_shape) == ("map", (None, 7, 7, 64))
    with pytest.raises(PluginError, match=r"pools nothing itself; set backbone.features: spatial"):
        build_kerashub(KerasHubOptions(preset=str(tmp_path / "resnet"), features="pooled"), 28)
    with pytest.raises(PluginError, match=r"has no attention that LoRA could be added to; leave out lora_rank"):
        build_kerashub(KerasHubOptions(preset=str(tmp_path / "resnet"), lora_rank=2), 28)


def test_a_preset_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PluginError, match=r"kerashub: the pixels of preset '.*nowhere' cannot be had: "):
        build_kerashub(KerasHubOptions(preset=str(tmp_path / "nowhere")), 28)
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "out.npz")]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()
