"""Every family of backbones leaves by every built-in door, and VGG16 and EfficientNet-Lite0 do so with their real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from finetunekit_keras_applications import spec_of
from finetunekit_keras_applications.catalogue import ENTRIES

import finetunekit as ftk
from finetunekit.config.pixel_contract import contract_of
from finetunekit.config.planning import prepare
from finetunekit.exporting.comparison import ask_network
from finetunekit.models.classifier import build_classifier
from finetunekit.models.load_weights import load_backbone_weights
from finetunekit.plugins.host import load_plugins
from finetunekit.system.environment import prepare_tensorflow

#: The smallest network of each module of `keras.applications`.
FAMILIES = {
    entry.network.family.module: entry.network.name
    for entry in sorted(ENTRIES, key=lambda entry: -spec_of(entry).parameters)
}


def servable_of_backbone(name: str, weights: str, folder: Path) -> ftk.Servable:
    """A backbone with a linear head that was not trained."""
    spec = load_plugins(pytest.fail).registries["backbone"][name].spec
    assert spec is not None
    size_px = spec.min_size_px if weights == "random" else 100
    preset = folder / "preset.yaml"
    preset.write_text(
        f"name: exported\ndata: {{source: drawn}}\npixels: {{size_px: {size_px}}}\nbackbone: {{name: {name}}}\n"
        f"weights: {{mode: {weights}}}\nhead: {{name: linear}}\nstages: [{{epochs: 1}}]\n",
        encoding="utf-8",
    )
    plan, _ = prepare(preset)
    prepare_tensorflow(seed=0, is_deterministic=False)
    classifier = build_classifier(plan.network, 3, "float32")
    try:
        load_backbone_weights(plan, classifier.backbone, print)
    except ftk.WeightsError as exc:
        pytest.skip(f"the arrays of {name} are not in the cache and no source is reachable: {exc}")
    return ftk.Servable(
        name=name,
        network=classifier.logits,
        classes=("a", "b", "c"),
        size_px=size_px,
        resize="bilinear",
        fit="stretch",
        crop_pct=None,
        source_px=None,
        pixels=contract_of(plan.config.pixels, spec),
        is_mirrored=False,
        temperature=1.0,
        metadata={},
        calibration=lambda photos: photos_of(size_px, min(photos, 8)),
    )


def photos_of(size_px: int, count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)


def largest_difference(servable: ftk.Servable, to: str, folder: Path) -> float:
    registered = load_plugins(pytest.fail).find("exporter", to, "test")
    exporter = registered.build(registered.options())
    exported = exporter.write(servable, folder)
    assert not any(name.startswith(("Flex", "READ_VARIABLE")) for name in exported.operations)
    photos = photos_of(servable.size_px, 2)
    found = exporter.open(folder)(photos)["probabilities"]
    return float(np.abs(found - ask_network(servable, photos)).max())


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("vgg16", "litert"),
        ("efficientnet_lite0", "onnx"),
        pytest.param("vgg16", "onnx", marks=pytest.mark.slow),
        pytest.param("efficientnet_lite0", "litert", marks=pytest.mark.slow),
    ],
)
def test_a_backbone_with_its_real_weights_gives_the_same_answers(name: str, to: str, tmp_path: Path) -> None:
    servable = servable_of_backbone(name, "pretrained", tmp_path)
    (tmp_path / "out").mkdir()
    assert largest_difference(servable, to, tmp_path / "out") < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("to", ["keras", "litert", "onnx", "savedmodel"])
@pytest.mark.parametrize("name", FAMILIES.values())
def test_every_family_gives_the_same_answers(name: str, to: str, tmp_path: Path) -> None:
    servable = servable_of_backbone(name, "random", tmp_path)
    (tmp_path / "out").mkdir()
    assert largest_difference(servable, to, tmp_path / "out") < 1e-4
