from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import tensorflow as tf
from finetunekit_builtin.keras_generator import (
    KerasGeneratorOptions,
    build_keras_generator,
    build_matrices,
    draw_parameters,
)
from numpy.typing import NDArray
from pydantic import ValidationError
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from finetunekit.data.augmentation import AugmentComponent, Augmenter
from finetunekit.data.resampling import _resampler
from finetunekit.system.keyed_random import derive_keys
from finetunekit.types import Fill

#: Grey levels, on white noise too. Measured: 0.00003, from 100 to 512 px, all fills.
TOLERANCE = 0.001
FELIDAE4: dict[str, Any] = {"shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True}
WILD: dict[str, Any] = {
    "rotation_range": 40.0,
    "width_shift_range": 0.2,
    "height_shift_range": 12.5,
    "shear_range": 15.0,
    "zoom_range": [0.6, 1.8],
    "horizontal_flip": True,
    "vertical_flip": True,
}
EVERYTHING: dict[str, Any] = {**WILD, "channel_shift_range": 30.0, "brightness_range": [0.4, 1.7]}


def _augmenter(*asked: dict[str, Any]) -> Augmenter:
    built = [build_keras_generator(_options(**options)) for options in asked]
    return Augmenter([AugmentComponent(i, f"augment[{i}]", steps) for i, steps in enumerate(built)])


def _options(**options: Any) -> KerasGeneratorOptions:
    return KerasGeneratorOptions.model_validate_json(json.dumps(options))


def _noise(height_px: int, width_px: int, photos: int = 12) -> NDArray[np.float32]:
    return np.random.default_rng(3).integers(0, 256, (photos, height_px, width_px, 3)).astype(np.float32)


def _smooth(height_px: int, width_px: int, photos: int = 12) -> NDArray[np.float32]:
    """Photo-like: neighbouring pixels are alike, full range."""
    blurred = scipy.ndimage.gaussian_filter(_noise(height_px, width_px, photos), (0, 4, 4, 0))
    low, high = blurred.min(axis=(1, 2, 3), keepdims=True), blurred.max(axis=(1, 2, 3), keepdims=True)
    return np.round((blurred - low) / (high - low) * 255).astype(np.float32)


def _augment(photos: NDArray[np.float32], keys: NDArray[np.int64], asked: dict[str, Any]) -> NDArray[np.float32]:
    images, _ = _augmenter(asked)(photos, np.zeros((len(photos), 2), np.float32), keys)
    return np.asarray(images)


def _keras(photos: NDArray[np.float32], keys: NDArray[np.int64], asked: dict[str, Any]) -> NDArray[np.float32]:
    """Keras' own pixels for the parameters that we draw."""
    options, generator = _options(**asked), ImageDataGenerator(**asked)
    parameters = draw_parameters(options, derive_keys(keys, "component", 0), *photos.shape[1:3])
    rows: list[dict[str, Any]] = [
        {name: float(values[i]) for name, values in parameters.items()} for i in range(len(photos))
    ]
    for row in rows:
        row["channel_shift_intensity"] = row["channel_shift_intensity"] if options.channel_shift_range else None
        row["brightness"] = row["brightness"] if options.brightness_range else None
    return np.stack([generator.apply_transform(photo, row) for photo, row in zip(photos, rows, strict=True)])


KEYS = derive_keys(11, np.arange(12))

# Keras' own import of affine_transform.
pytestmark = pytest.mark.filterwarnings("ignore:Please import .affine_transform.:DeprecationWarning")


@pytest.mark.parametrize("size", [(100, 100), (97, 50)])
@pytest.mark.parametrize(
    "fill", [{}, {"fill_mode": "reflect"}, {"fill_mode": "wrap"}, {"fill_mode": "constant", "cval": 37.0}]
)
@pytest.mark.parametrize("asked", [FELIDAE4, WILD], ids=["felidae4", "wild"])
def test_pixels_equal_those_of_keras(size: tuple[int, int], fill: dict[str, Any], asked: dict[str, Any]) -> None:
    photos, asked = np.concatenate([_noise(*size, photos=6), _smooth(*size, photos=6)]), {**asked, **fill}
    ours, theirs = _augment(photos, KEYS, asked), _keras(photos, KEYS, asked)
    assert np.abs(theirs - photos).mean() > 0.5  # the comparison is of changed photos
    assert np.abs(ours - theirs).max() <= TOLERANCE


def test_larger_photos_are_as_exact_and_so_is_tensorflow_without_xla() -> None:
    photos = _noise(224, 224)
    theirs = _keras(photos, KEYS, WILD)
    assert np.abs(_augment(photos, KEYS, WILD) - theirs).max() <= TOLERANCE
    matrices = _augmenter(WILD).prepare(KEYS, 224, 224).matrices[:, 0]
    plain = _resampler(224, 224, Fill("nearest"), is_compiled=False)(photos, matrices)
    assert np.abs(plain - theirs).max() <= TOLERANCE


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"horizontal_flip": True, "vertical_flip": True}, id="flips"),
        pytest.param({"height_shift_range": 7, "width_shift_range": 4}, id="whole-pixel shifts"),
        pytest.param({"height_shift_range": 7, "fill_mode": "constant", "cval": 3.0}, id="constant"),
        pytest.param({"channel_shift_range": 60.0}, id="channel shift"),
        pytest.param({"brightness_range": [0.2, 1.9]}, id="brightness"),
        pytest.param(
            {"channel_shift_range": 60.0, "vertical_flip": True, "brightness_range": [0.2, 1.9]}, id="in Keras' order"
        ),
    ],
)
def test_what_needs_no_interpolation_is_exact(asked: dict[str, Any]) -> None:
    photos = _noise(20, 14)
    ours = _augment(photos, KEYS, asked)
    np.testing.assert_array_equal(ours, _keras(photos, KEYS, asked))
    assert (ours != photos).any()


def test_flips_mirror_about_half_of_the_photos() -> None:
    photos, keys = _noise(6, 5, photos=400), derive_keys(2, np.arange(400))
    ours = _augment(photos, keys, {"horizontal_flip": True})
    mirrored = (ours == photos[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((ours == photos).all(axis=(1, 2, 3)) ^ mirrored).all()
    assert scipy.stats.binomtest(int(mirrored.sum()), 400).pvalue > 0.001


def test_parameters_follow_the_distribution_of_keras() -> None:
    photos = 3000
    generator = ImageDataGenerator(**EVERYTHING)
    np.random.seed(0)
    drawn = [generator.get_random_transform((100, 80, 3)) for _ in range(photos)]
    ours = draw_parameters(_options(**EVERYTHING), derive_keys(4, np.arange(photos)), 100, 80)
    assert set(ours) == set(drawn[0])
    p_values = {}
    for name, values in ours.items():
        theirs = np.array([float(row[name]) for row in drawn])
        p_values[name] = scipy.stats.ks_2samp(values, theirs, method="asymp").pvalue
        spread = np.ptp(theirs)
        assert abs(values.mean() - theirs.mean()) < 0.03 * spread
        assert abs(values.std() - theirs.std()) < 0.03 * spread
        assert abs(values.min() - theirs.min()) < 0.01 * spread
        assert abs(values.max() - theirs.max()) < 0.01 * spread
    assert min(p_values.values()) * len(p_values) > 0.001, p_values


def test_parameters_are_drawn_independently_of_each_other() -> None:
    ours = draw_parameters(_options(**EVERYTHING), derive_keys(4, np.arange(5000)), 100, 80)
    columns = np.stack(list(ours.values()))
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    # 45 pairs, standard deviation 1 / sqrt(5000) = 0.014.
    assert np.abs(correlation).max() < 0.06
    assert np.abs(ours["zx"] - ours["zy"]).mean() > 0.2 * np.ptp(ours["zx"])


def test_whole_pixel_shifts_are_drawn_as_in_keras() -> None:
    generator = ImageDataGenerator(width_shift_range=4)
    np.random.seed(0)
    theirs = np.array([generator.get_random_transform((50, 50, 3))["ty"] for _ in range(6000)])
    keys = derive_keys(5, np.arange(6000))
    ours = draw_parameters(_options(width_shift_range=4), keys, 50, 50)["ty"]
    values, counts = np.unique(ours, return_counts=True)
    np.testing.assert_array_equal(values, np.unique(theirs))
    observed = np.stack([counts, np.unique(theirs, return_counts=True)[1]])
    assert scipy.stats.chi2_contingency(observed).pvalue > 0.001
    assert not draw_parameters(_options(width_shift_range=1), keys, 50, 50)["ty"].any()


def test_what_is_off_stays_at_rest_and_leaves_other_draws_alone() -> None:
    keys = derive_keys(5, np.arange(100))
    alone = draw_parameters(_options(shear_range=3.0), keys, 50, 50)
    wild = draw_parameters(_options(**{**WILD, "shear_range": 3.0}), keys, 50, 50)
    np.testing.assert_array_equal(alone["shear"], wild["shear"])
    for name in ("theta", "tx", "ty", "flip_horizontal", "flip_vertical", "channel_shift_intensity"):
        assert not alone[name].any()
    for name in ("zx", "zy", "brightness"):
        np.testing.assert_array_equal(alone[name], 1.0)
    assert np.abs(alone["shear"]).max() <= 3.0


def test_two_generators_are_one_resampling_by_the_product_of_their_matrices() -> None:
    first, second = {"rotation_range": 20.0}, FELIDAE4
    prepared = _augmenter(first, second).prepare(KEYS, 64, 96)
    matrices = [
        build_matrices(draw_parameters(_options(**asked), derive_keys(KEYS, "component", i), 64, 96), 64, 96)
        for i, asked in enumerate((first, second))
    ]
    assert prepared.matrices.shape == (12, 1, 3, 3)
    np.testing.assert_allclose(prepared.matrices[:, 0], matrices[0] @ matrices[1], rtol=0, atol=1e-12)


def test_a_dataset_gives_the_pixels_of_a_call() -> None:
    photos, augmenter = _noise(20, 14), _augmenter(EVERYTHING)
    labels = np.zeros((12, 2), np.float32)
    called, _ = augmenter(photos, labels, KEYS)
    prepared = augmenter.prepare(KEYS, 20, 14)
    rows = tf.data.Dataset.from_tensor_slices((photos, labels, prepared.matrices, prepared.keys))
    mapped = rows.batch(5).map(tf.autograph.experimental.do_not_convert(augmenter.transform), tf.data.AUTOTUNE)
    np.testing.assert_array_equal(np.concatenate([images for images, _ in mapped.as_numpy_iterator()]), called)
    np.testing.assert_array_equal(_augment(photos, KEYS, EVERYTHING), called)
    assert np.abs(_augment(photos, KEYS[::-1], EVERYTHING) - called).max() > 1


@pytest.mark.parametrize(
    ("asked", "affine", "colours"),
    [({}, False, False), ({"zoom_range": [1, 1]}, False, False), (FELIDAE4, True, False), (EVERYTHING, True, True)],
)
def test_only_what_was_asked_for_becomes_a_step(asked: dict[str, Any], affine: bool, colours: bool) -> None:
    steps = build_keras_generator(_options(**asked))
    assert [step.affine is not None for step in steps] == [True] * affine + [False] * colours
    assert all(step.scope == "photo" and step.is_deterministic for step in steps)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"zoom_range": [1.2, 0.8]}, r"zoom_range\n.*a number in \[0, 1\), or a pair \[low, high\]"),
        ({"zoom_range": 1.0}, r"zoom_range\n.*a number in \[0, 1\)"),
        ({"brightness_range": [1.5, 0.5]}, r"brightness_range\n.*lower bound 1\.5 is above the upper bound 0\.5"),
        ({"width_shift_range": -1}, r"width_shift_range\n.*a number in \[0, 2048\]"),
        ({"shear_range": "0.2"}, r"shear_range\n.*valid number"),
        ({"fill_mode": "mirror"}, r"fill_mode\n.*'nearest', 'constant', 'reflect' or 'wrap'"),
        ({"rescale": 0.1}, r"rescale\n.*not permitted"),
        ({"zoom_rnge": 0.2}, r"zoom_rnge\n.*not permitted"),
    ],
)
def test_bad_options_are_refused_with_one_message(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        _options(**asked)
    assert caught.value.error_count() == 1
