"""Features for probes: pooled as a head pools, the same photos in any split, computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetunekit.config.planning import prepare
from finetunekit.errors import DataError
from finetunekit.evaluation.probe_features import ProbeFeatures, open_probe
from finetunekit.models.feature_cache import open_cache
from finetunekit.models.preprocessing import as_input
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)


def opened(tiny_yaml: Path, *settings: str) -> ProbeFeatures:
    from finetunekit.data.index import build_index
    from finetunekit.data.listing import list_photos

    plan, _ = prepare(tiny_yaml, settings=settings)
    return open_probe(plan, build_index(list_photos(plan, QUIET), max_pixels=10_000), QUIET)


def test_features_are_the_backbones_output_averaged_over_positions(tiny_yaml: Path) -> None:
    probe = opened(tiny_yaml)
    features, labels = probe.split("train")
    pixels = as_input(probe.photos.split("train").pixels, probe.contract)
    backbone = probe.pooled.prefix.layers[-2].output  # before the pooling
    import keras

    maps = keras.Model(probe.pooled.prefix.inputs[0], backbone)(pixels, training=False).numpy()
    np.testing.assert_allclose(features, maps.mean(axis=(1, 2)), rtol=1e-5)
    assert features.shape == (12, 4)
    assert features.dtype == np.float32
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert probe.num_classes == 3
    assert probe.channels == 4


def test_features_are_computed_once_and_another_contract_has_its_own(tiny_yaml: Path, photos: Path) -> None:
    first = opened(tiny_yaml)
    first.split("train")
    again = opened(tiny_yaml)
    computed = len(open_cache(QUIET.say).entries())
    away = photos.rename(photos.with_name("away"))
    np.testing.assert_array_equal(again.split("train")[0], first.split("train")[0])  # not even decoded
    away.rename(photos)
    assert len(open_cache(QUIET.say).entries()) == computed == 1
    other = again.with_contract(again.plan.spec.pixels)
    assert np.abs(other.split("train")[0] - first.split("train")[0]).max() > 1e-3
    assert len(open_cache(QUIET.say).entries()) == 2


def test_photos_that_were_computed_before_are_not_computed_with_the_others(tiny_yaml: Path) -> None:
    probe = opened(tiny_yaml)
    train = probe.photos.split("train")
    part = train.take([0, 5, 11])
    assert part.sha256 == tuple(train.sha256[i] for i in (0, 5, 11))
    whole = probe.features_of(train, "train")
    open_cache(QUIET.say).clear()
    probe.features_of(part, "some")
    np.testing.assert_array_equal(probe.features_beyond(part.sha256, train, "train"), whole)
    assert sorted(entry.photos for entry in open_cache(QUIET.say).entries()) == [3, 9]
    open_cache(QUIET.say).clear()
    np.testing.assert_array_equal(probe.features_beyond(part.sha256, train, "train"), whole)  # nothing of them is kept
    assert [entry.photos for entry in open_cache(QUIET.say).entries()] == [12]


def test_no_split_is_touched_that_was_not_asked_for(tiny_yaml: Path, photos: Path) -> None:
    probe = opened(tiny_yaml)
    for path in (photos / "test").rglob("*.png"):
        path.unlink()
    probe.split("train")
    probe.split("valid")
    with pytest.raises(DataError, match="no such file"):
        probe.split("test")


def test_copies_of_a_photo_are_one_group(tiny_yaml: Path, photos: Path) -> None:
    (photos / "train/red/copy.png").write_bytes((photos / "train/red/red-0.png").read_bytes())
    groups = opened(tiny_yaml).groups("train")
    assert len(groups) == 13
    assert len(set(groups)) == 12


@pytest.mark.parametrize("settings", [(), ("precision=bfloat16",)])
def test_a_linear_head_finds_the_probes_features_in_the_cache(tiny_yaml: Path, settings: Any) -> None:
    from finetunekit.engine.api import run

    probe = opened(tiny_yaml, *settings)
    probe.split("train")
    probe.split("valid")
    known = {entry.key for entry in open_cache(QUIET.say).entries()}
    linear = [
        "head={name: linear}",
        "augment=[]",
        "stages=[{freeze: {name: all}, epochs: 1}]",
        "cache.require=close",
    ]
    run(tiny_yaml, settings=[*settings, *linear], out=tiny_yaml.parent / "runs", progress=QUIET)
    notes = {entry.note: entry.key for entry in open_cache(QUIET.say).entries() if entry.key not in known}
    assert len(notes) == 1  # of the test photos; train and valid were there
    assert "test" in next(iter(notes))
