"""Networks of KerasHub by name: named with what they take, built and fetched through KerasHub where it is there, one line where not."""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from finetunekit_keras_applications.hub import NETWORKS, HubNetwork, HubOptions, build_hub

from finetunekit import PluginError
from finetunekit.engine.machine_checks import examine
from finetunekit.errors import WeightsError
from finetunekit.experiments.backbone_search import list_candidates
from finetunekit.models.weights import StoredArrays, fit_arrays, resolve_weights, weights_availability
from finetunekit.system.progress import Progress
from finetunekit.testing import check_backbone


def test_doctor_and_probe_name_them_with_what_they_take(own_cache: Path) -> None:
    found = {finding.what: finding for finding in examine(is_offline=True)}
    assert {"backbone dinov2_small", "backbone siglip2_base", "backbone convnexttiny"} <= found.keys()
    words = found["backbone siglip2_base"].detail
    assert "www.kaggle.com (1500 MB)" in words
    assert "GB of memory to train all of it" in words
    _, left_out = list_candidates("fast", progress=Progress(is_quiet=True))
    (why,) = (why for name, why in left_out.items() if name.startswith("dinov2_small, learnt without labels"))
    assert "www.kaggle.com (90 MB)" in why


def test_what_has_to_be_installed_is_said_only_where_it_is_missing() -> None:
    spec = NETWORKS[0].with_source()
    missing = dataclasses.replace(spec, requires="no-such-distribution")
    assert "; pip install no-such-distribution; about " in weights_availability("x", missing).words
    assert "pip install" not in weights_availability("x", dataclasses.replace(spec, requires="numpy")).words


def test_without_kerashub_and_without_a_network_there_is_one_line(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = NETWORKS[0]
    monkeypatch.setenv("FINETUNEKIT_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"www.kaggle.com: not tried, FINETUNEKIT_OFFLINE is set"):
        resolve_weights(network.name, network.with_source(), explicit=None, say=print)
    monkeypatch.setitem(sys.modules, "finetunekit_kerashub.network", None)
    with pytest.raises(PluginError, match=r"dinov2_small: needs KerasHub .* pip install finetunekit-kerashub"):
        build_hub(network, HubOptions(), 224)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> HubNetwork:
    """A tiny DINOv2 with random weights, written by KerasHub, in the place of the hub."""
    keras_hub = pytest.importorskip("keras_hub")
    folder = tmp_path_factory.mktemp("hub") / "dinov2"
    network = keras_hub.models.DINOV2Backbone(
        patch_size=14, num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=16, image_shape=(28, 28, 3),
        position_embedding_shape=(42, 42, 3),
    )  # fmt: skip
    folder.mkdir()
    network.save_to_preset(str(folder))
    keras_hub.layers.DINOV2ImageConverter(image_size=(28, 28), scale=1 / 255).save_to_preset(str(folder))
    spec = dataclasses.replace(NETWORKS[0].spec, native_size_px=28, min_size_px=28, parameters=5480)
    return dataclasses.replace(NETWORKS[0], name="tiny_dinov2", preset=str(folder), spec=spec)


def test_its_arrays_come_through_kerashub_and_are_cached(tiny: HubNetwork, own_cache: Path) -> None:
    spec = tiny.with_source()
    found = resolve_weights(tiny.name, spec, explicit=None, say=lambda _: None)
    assert (found.found_in, found.provenance.kind, found.provenance.licence) == ("source", "library", "Apache-2.0")
    assert "pins no checksum" in found.provenance.note
    again = resolve_weights(tiny.name, spec, explicit=None, say=print)
    assert again.found_in == "cache"
    backbone = build_hub(tiny, HubOptions(), 28)
    fit_arrays(backbone.model, StoredArrays(again.path), origin="test")
    assert backbone.model(np.zeros((1, 28, 28, 3), np.float32)).shape == (1, 5, 8)
    with pytest.raises(PluginError, match=r"tiny_dinov2: takes 28 px only; pixels.size_px is 42"):
        build_hub(tiny, HubOptions(), 42)


def test_it_keeps_the_contract_of_backbones(tiny: HubNetwork) -> None:
    check_backbone(partial(build_hub, tiny), HubOptions(), spec=tiny.with_source())
