from __future__ import annotations

import importlib
import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetunekit_keras_applications import families, spec_of
from finetunekit_keras_applications.catalogue import ENTRIES, Entry
from finetunekit_keras_applications.families import Family
from finetunekit_keras_applications.networks import (
    Network,
    blocks_of,
    build_application,
    convert_h5,
    keras_model,
)

from finetunekit import count_names_anew
from finetunekit.errors import PluginError, WeightsError
from finetunekit.models.flops import count_uses, not_counted, total_multiply_adds
from finetunekit.models.preprocessing import standardise
from finetunekit.models.weights import fit_arrays
from finetunekit.plugins.host import load_plugins
from finetunekit.testing import check_component

BY_NAME = {entry.network.name: entry for entry in ENTRIES}
#: The smallest of each
FAMILIES = {
    (entry.network.family.module, entry.network.family.pixels): entry
    for entry in sorted(ENTRIES, key=lambda entry: -spec_of(entry).parameters)
}.values()


def test_every_classifier_of_the_installed_keras_is_there() -> None:
    from keras import applications

    functions = {name.lower() for name, value in vars(applications).items() if inspect.isfunction(value)}
    registered = set(load_plugins(print).registries["backbone"])
    assert functions == {*BY_NAME, "vgg16"}
    assert functions <= registered


@pytest.mark.parametrize("entry", FAMILIES, ids=lambda e: f"{e.network.family.module}-{e.network.name}")
def test_contract_is_what_keras_does_to_pixels(entry: Entry) -> None:
    family = entry.network.family
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3)).astype(np.float32)
    module = importlib.import_module(f"keras.applications.{family.module}")
    outside = module.preprocess_input(pixels.copy())
    assert (family.rescaling == "none") != np.array_equal(outside, pixels), "either Keras does it outside, or inside"
    expected = outside if family.rescaling == "none" else inside(entry.network, pixels)
    np.testing.assert_allclose(standardise(pixels, family.pixels), expected, rtol=0, atol=2e-5 * 255)
    np.testing.assert_allclose(standardise(pixels, family.pixels), expected, rtol=1e-5, atol=2e-5)


def inside(network: Network, pixels: np.ndarray) -> np.ndarray:
    """What the layers of Keras' own graph do before its first convolution."""
    import keras

    build = getattr(keras.applications, network.function)
    model = build(include_top=False, weights=None, input_shape=(32, 32, 3))
    x: Any = pixels
    for layer in model.layers[1:4]:
        if isinstance(layer, keras.layers.Normalization) and network.family.rescaling == "strip":
            # its published file holds the deviation where a variance belongs, and weights="imagenet" divides by its root again
            from keras.src.applications.efficientnet import IMAGENET_STDDEV_RGB as deviation

            x = (x - np.array(network.family.pixels.mean)) / np.sqrt(deviation) / np.sqrt(deviation)
        elif isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
            x = layer(x)
    return np.asarray(x, np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files in the layout that Keras publishes."""
    folder = tmp_path_factory.mktemp("published")
    names = ("efficientnetb0", "mobilenetv3small")
    return {name: legacy_file(folder / f"{name}.h5", BY_NAME[name].network) for name in names}


@pytest.mark.parametrize(("name", "size_px"), [("efficientnetb0", 64), ("mobilenetv3small", 224)])
def test_published_layout_gives_keras_own_features(
    files: dict[str, Path], name: str, size_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the layout that Keras publishes, read by Keras as `weights="imagenet"` and by us: equal features of equal photos."""
    import keras

    entry, asked = BY_NAME[name], list[tuple[Any, ...]]()
    network, source = entry.network, spec_of(entry).weight_sources[0]
    file = files[name]
    module = importlib.import_module(f"keras.src.applications.{network.family.module}")

    def downloaded(name: str, origin: str, *, cache_subdir: str, file_hash: str) -> str:
        asked.append((origin, file_hash))
        return str(file)

    monkeypatch.setattr(module.file_utils, "get_file", downloaded)
    theirs = getattr(keras.applications, network.function)(include_top=False, input_shape=(size_px, size_px, 3))
    ours = build_application(network, size_px)
    fit_arrays(ours.model, source.convert(file), origin="test")
    assert asked == [(source.location, source.checksum.partition(":")[2])]
    photos = np.random.default_rng(1).integers(0, 256, (2, size_px, size_px, 3)).astype(np.float32)
    expected = np.asarray(theirs(photos, training=False))
    received = np.asarray(ours.model(standardise(photos, network.family.pixels), training=False))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def legacy_file(path: Path, network: Network) -> Path:
    """Random weights, not initial ones: every array has to find its place."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    model, random = keras_model(network, 64), np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(np.asarray(variable) + random.uniform(0.01, 0.05, variable.shape).astype(np.float32))
    for layer in model.layers:
        if type(layer).__name__ == "Normalization":
            mean, variance, *_ = layer.weights
            mean.assign(families.TORCH.mean)
            variance.assign(families.TORCH.std)
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def test_files_that_do_not_fit_are_refused(tmp_path: Path, files: dict[str, Path]) -> None:
    import h5py

    file = shutil.copy(files["efficientnetb0"], tmp_path / "b0.h5")
    with pytest.raises(WeightsError, match="not a file of MobileNetV3Small: Layer count mismatch"):
        convert_h5(BY_NAME["mobilenetv3small"].network, file)
    with h5py.File(file, "r+") as opened:
        group = opened["normalization"] if "normalization" in opened else opened[normalisation(opened)]
        for name in group.attrs["weight_names"]:
            group[name][...] = np.ones_like(group[name][()])
    with pytest.raises(WeightsError, match=r"the file normalises by .* not by ImageNet's mean and deviation"):
        convert_h5(BY_NAME["efficientnetb0"].network, file)


def normalisation(file: Any) -> str:
    """Name of the layer as this process counted it."""
    return next(str(name) for name in file if str(name).startswith("normalization"))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.network.name)
def test_files_and_checksums_are_those_of_the_installed_keras(entry: Entry) -> None:
    module = "resnet" if entry.network.family.module == "resnet_v2" else entry.network.family.module
    found = importlib.import_module(f"keras.src.applications.{module}")
    text = Path(found.__file__ or "").read_text(encoding="utf-8")
    if entry.checksum is None:
        assert "file_hash" not in text, "Keras pins a checksum now: so can we"
        assert not spec_of(entry).weight_sources
        return
    assert f'"{entry.checksum.partition(":")[2]}"' in text
    bases = [value for key, value in vars(found).items() if key.startswith("BASE_WEIGHT") and isinstance(value, str)]
    known = [value for value in vars(found).values() if isinstance(value, str) and value.endswith(".h5")]
    assert entry.location in known or any(entry.location.startswith(base) for base in bases)


def test_parameters_and_costs_are_counted() -> None:
    entry = BY_NAME["mobilenetv3small"]
    spec = spec_of(entry)
    model = build_application(entry.network, spec.native_size_px).model
    uses = count_uses(model)
    assert (model.count_params(), total_multiply_adds(uses)) == (spec.parameters, spec.multiply_adds)
    assert not not_counted(uses)


@pytest.mark.parametrize("name", ["mobilenetv3small"])
def test_built_ones_keep_the_contract(name: str) -> None:
    check_component("backbone", load_plugins(print).registries["backbone"][name])


def test_names_and_blocks_do_not_depend_on_what_was_built_before() -> None:
    import keras

    first = build_application(BY_NAME["xception"].network, 71)
    keras.layers.Conv2D(1, 1)
    second = build_application(BY_NAME["xception"].network, 71)
    names = [layer.name for layer in first.model.layers]
    assert names == [layer.name for layer in second.model.layers]
    assert {"conv2d", "conv2d_1", "add"} <= set(names)
    assert "conv2d_4" not in names
    assert first.blocks == second.blocks
    assert list(first.blocks) == [f"block{number}" for number in range(1, 15)]
    assert "conv2d" in first.blocks["block2"], "a shortcut belongs to the block that it goes around"
    with pytest.raises(PluginError, match=r"xception: pixels.size_px is 70; at least 71 is needed"):
        build_application(BY_NAME["xception"].network, 70)


def test_a_renamed_network_comes_back_from_its_file(tmp_path: Path) -> None:
    import keras

    backbone = build_application(BY_NAME["mobilenetv3small"].network, 32)
    photos = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    backbone.model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(again(photos)), np.asarray(backbone.model(photos)))
    assert [layer.name for layer in again.layers] == [layer.name for layer in backbone.model.layers]
    before = [operation.name for operation in backbone.model.operations]
    count_names_anew(backbone.model)
    assert [operation.name for operation in backbone.model.operations] == before


BLOCKS: list[tuple[Family, tuple[str, ...], dict[str, tuple[str, ...]]]] = [
    (
        families.INCEPTION_V3,
        ("conv2d", "max_pooling2d_1", "conv2d_5", "mixed0", "conv2d_9", "mixed9_0", "mixed9"),
        {
            "stem": ("conv2d", "max_pooling2d_1"),
            "mixed0": ("conv2d_5", "mixed0"),
            "mixed9": ("conv2d_9", "mixed9_0", "mixed9"),
        },
    ),
    (
        families.NASNET,
        (
            "stem_conv1",
            "reduction_conv_1_stem_1",
            "activation_3",
            "adjust_bn_0",
            "separable_conv_1_normal_left1_12",
            "normal_concat_12",
        ),
        {
            "stem": ("stem_conv1",),
            "stem_1": ("reduction_conv_1_stem_1", "activation_3"),
            "block0": ("adjust_bn_0",),
            "block12": ("separable_conv_1_normal_left1_12", "normal_concat_12"),
        },
    ),
    (
        families.CONVNEXT,
        (
            "convnext_tiny_stem/convnext_tiny_stem_conv",
            "convnext_tiny_stage_0_block_1_gelu",
            "convnext_tiny_downsampling_block_0/x",
        ),
        {
            "stem": ("convnext_tiny_stem/convnext_tiny_stem_conv",),
            "stage_0": ("convnext_tiny_stage_0_block_1_gelu",),
            "downsampling_block_0": ("convnext_tiny_downsampling_block_0/x",),
        },
    ),
    (
        families.MOBILENET_V3,
        ("conv", "re_lu", "expanded_conv_depthwise", "expanded_conv_1_expand", "re_lu_2", "conv_1", "conv_1_bn"),
        {
            "stem": ("conv", "re_lu"),
            "expanded_conv": ("expanded_conv_depthwise",),
            "expanded_conv_1": ("expanded_conv_1_expand", "re_lu_2"),
            "conv_1": ("conv_1", "conv_1_bn"),
        },
    ),
    (
        families.MOBILENET,
        ("conv1", "conv_dw_1", "conv_pw_1_bn"),
        {"stem": ("conv1",), "block1": ("conv_dw_1", "conv_pw_1_bn")},
    ),
]


@pytest.mark.parametrize(("family", "paths", "expected"), BLOCKS, ids=lambda value: getattr(value, "module", ""))
def test_blocks_follow_layer_names(
    family: Family, paths: tuple[str, ...], expected: dict[str, tuple[str, ...]]
) -> None:
    assert blocks_of(family, ("input", *paths)) == expected
