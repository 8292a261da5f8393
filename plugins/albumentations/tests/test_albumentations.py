"""Albumentations as an augmentation; skipped where it is not installed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
pytest.importorskip("albumentations", reason="pip install finetunekit-albumentations")

from finetunekit_albumentations import AlbumentationsOptions, Transform, build_albumentations

from finetunekit import ConfigError
from finetunekit.testing import check_augmentation


def build(*transforms: tuple[str, dict[str, Any]]) -> Any:
    options = AlbumentationsOptions(transforms=tuple(Transform(transform=n, arguments=a) for n, a in transforms))
    return build_albumentations(options)[0]


def augment(step: Any, seed: int = 0) -> Any:
    import tensorflow as tf

    photos = np.random.default_rng(0).integers(0, 256, (8, 10, 12, 3)).astype(np.float32)
    keys = tf.constant(np.arange(8) * 1_000_003 + seed, tf.int64)
    changed, labels = tf.function(step.apply, autograph=False)(tf.constant(photos), tf.ones((8, 2)), keys)
    assert labels.shape == (8, 2)
    return photos, np.asarray(changed)


def test_it_keeps_the_contract_and_says_that_it_is_not_pure() -> None:
    check_augmentation(build_albumentations, AlbumentationsOptions())
    assert build(("HorizontalFlip", {})).is_deterministic is False


def test_flips_flip() -> None:
    photos, changed = augment(build(("HorizontalFlip", {"p": 1.0})))
    np.testing.assert_array_equal(changed, photos[:, :, ::-1])


def test_the_same_keys_give_the_same_pixels() -> None:
    step = build(("GaussNoise", {"p": 1.0}), ("RandomBrightnessContrast", {"p": 1.0}))
    np.testing.assert_array_equal(augment(step)[1], augment(step)[1])
    assert not np.array_equal(augment(step)[1], augment(step, 1)[1])


@pytest.mark.parametrize(
    ("transforms", "match"),
    [
        ((("HorizontalFlp", {}),), r"no transform of photos in Albumentations\. Did you mean 'HorizontalFlip'"),
        ((("Lambda", {}),), "'Lambda' is no transform"),
        ((("GaussNoise", {"sigma": 1}),), "GaussNoise does not take 'sigma'"),
        ((("GaussNoise", {"std_range": "much"}),), "GaussNoise: "),
        ((("Resize", {"height": 5, "width": 5}),), r"make \(10, 12, 3\) into \(5, 5, 3\); the size must stay"),
    ],
)
def test_what_is_not_there_is_refused(transforms: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        augment(build(*transforms))
