from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from finetunekit_efficientnet_lite import SPECS
from finetunekit_efficientnet_lite.network import LITE0, LITE1, LITE2, Variant, bottlenecks, build_efficientnet_lite
from finetunekit_efficientnet_lite.weights import TOP_BIAS, TOP_KERNEL, convert_torch
from PIL import Image

from finetunekit.errors import PluginError, WeightsError
from finetunekit.evaluation.imagenet import imagenet_classes
from finetunekit.models.flops import count_uses, not_counted, total_multiply_adds
from finetunekit.models.preprocessing import standardise
from finetunekit.models.weights import (
    ResolvedWeights,
    StoredArrays,
    fit_arrays,
    load_top,
    resolve_weights,
    weights_cache_dir,
)
from finetunekit.plugins.host import load_plugins
from finetunekit.testing import check_component
from finetunekit.types import PretrainedTop

VARIANTS = (LITE0, LITE1, LITE2)
#: Source: tensorflow/tpu, models/official/efficientnet/lite/README.md: millions of parameters, the 1000-way top included
PUBLISHED_MILLIONS = {LITE0: 4.7, LITE1: 5.4, LITE2: 6.1}


def test_registered_and_within_the_contract() -> None:
    registry = load_plugins(print).registries["backbone"]
    assert {variant.name for variant in VARIANTS} <= set(registry)
    check_component("backbone", registry["efficientnet_lite0"])


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_size_and_arithmetic_are_as_the_spec_says(variant: Variant) -> None:
    spec, backbone = SPECS[variant], build_efficientnet_lite(variant, variant.size_px)
    uses = count_uses(backbone.model)
    assert not not_counted(uses)
    assert total_multiply_adds(uses) == spec.multiply_adds
    assert backbone.model.count_params() == spec.parameters
    moving = sum(int(np.prod(w.shape)) for w in backbone.model.non_trainable_weights)
    with_top = (spec.parameters - moving + 1281 * 1000) / 1e6
    assert with_top == pytest.approx(PUBLISHED_MILLIONS[variant], abs=0.06)
    assert backbone.model.output_shape == (None, -(-variant.size_px // 32), -(-variant.size_px // 32), 1280)


def test_blocks_hold_every_layer_but_the_input_once() -> None:
    backbone = build_efficientnet_lite(LITE0, 32)
    names = [layer.name for layer in backbone.model.layers]
    assert [name for block in backbone.blocks.values() for name in block] == names[1:]
    assert list(backbone.blocks) == ["stem", *(f"block{number}" for number in range(1, 8)), "top"]
    assert [part.name for part in bottlenecks(LITE1)][-6:] == [*(f"block6{c}" for c in "abcde"), "block7a"]
    with pytest.raises(PluginError, match=r"pixels.size_px is 31; at least 32 is needed"):
        build_efficientnet_lite(LITE0, 31)


def published(variant: Variant) -> ResolvedWeights:
    """The real arrays, kept in the user's cache between test runs."""
    try:
        return resolve_weights(variant.name, SPECS[variant], explicit=None, say=print)
    except WeightsError as exc:
        if any(reason in str(exc) for reason in ("unreachable", "gave no file within", "FINETUNEKIT_OFFLINE is set")):
            pytest.skip(f"{variant.name}'s arrays are not in {weights_cache_dir()}, no source is reachable: {exc}")
        raise


def cat() -> Image.Image:
    """The photo of a cat that scikit-image carries, without importing it."""
    found = importlib.util.find_spec("skimage")
    path = Path(found.origin or "").parent / "data" / "chelsea.png" if found else Path("chelsea.png")
    if not path.is_file():
        pytest.skip("scikit-image and its photo of a cat are not here")
    return Image.open(path).convert("RGB")


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_a_cat_comes_out_a_cat(variant: Variant) -> None:
    found, spec = published(variant), SPECS[variant]
    backbone = build_efficientnet_lite(variant, variant.size_px)
    fit_arrays(backbone.model, StoredArrays(found.path), origin="test", top=spec.top)
    photo = np.asarray(cat().resize((variant.size_px,) * 2, Image.Resampling.BICUBIC), np.float32)[None]
    features = np.asarray(backbone.model(standardise(photo, spec.pixels), training=False))
    kernel, bias = load_top(found, spec)
    assert (kernel.shape, bias.shape) == ((1280, 1000), (1000,))
    logits = features.mean((1, 2)) @ kernel + bias
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    best = [imagenet_classes()[index] for index in np.argsort(probabilities[0])[::-1][:3]]
    assert {c.names[0] for c in best} == {"Egyptian cat", "tabby", "tiger cat"}
    assert sum(probabilities[0, c.index] for c in best) > 0.8


def test_a_file_of_another_variant_is_refused(tmp_path: Path) -> None:
    arrays = StoredArrays(published(LITE0).path)
    with pytest.raises(WeightsError, match=r"do not fit the backbone: no array for block2c"):
        fit_arrays(build_efficientnet_lite(LITE1, 32).model, arrays, origin="lite0", top=SPECS[LITE1].top)
    (tmp_path / "a.pth").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="not a legacy PyTorch file"):
        convert_torch(LITE0, tmp_path / "a.pth")


def test_arrays_of_the_top_are_left_alone_only_where_the_spec_names_them() -> None:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    arrays = {"dense/kernel": np.ones((3, 2), np.float32), "dense/bias": np.zeros(2, np.float32)}
    top = {TOP_KERNEL: np.ones((2, 1000), np.float32), TOP_BIAS: np.zeros(1000, np.float32)}
    fit_arrays(model, arrays | top, origin="test", top=PretrainedTop(TOP_KERNEL, TOP_BIAS))
    np.testing.assert_array_equal(model.get_layer("dense").kernel.numpy(), arrays["dense/kernel"])
    with pytest.raises(WeightsError, match="no weight for array imagenet_top/"):
        fit_arrays(model, arrays | top, origin="test")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"a/kernel": np.ones(2, np.float32)},
            "has no imagenet_top/kernel and imagenet_top/bias, the classification layer",
        ),
        ({TOP_KERNEL: np.ones((2, 5), np.float32), TOP_BIAS: np.ones(4, np.float32)}, "do not belong together"),
    ],
)
def test_a_top_that_is_not_there_is_an_error(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    np.savez(tmp_path / "own.npz", **arrays)  # type: ignore[arg-type]
    found = resolve_weights("efficientnet_lite0", SPECS[LITE0], explicit=tmp_path / "own.npz", say=print)
    with pytest.raises(WeightsError, match=words):
        load_top(found, SPECS[LITE0])


def test_a_backbone_without_top_says_so(tmp_path: Path) -> None:
    from finetunekit_builtin.vgg16 import VGG16_SPEC

    np.savez(tmp_path / "own.npz", a=np.ones(1, np.float32))
    found = resolve_weights("vgg16", VGG16_SPEC, explicit=tmp_path / "own.npz", say=print)
    with pytest.raises(WeightsError, match="VGG16: its weights have no classification layer"):
        load_top(found, VGG16_SPEC)
