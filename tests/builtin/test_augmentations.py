"""The built-in augmentations: their contract, and the distributions and pixels of their sources."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from click.testing import CliRunner
from finetunekit_builtin import augmentations as aug
from finetunekit_builtin.augmentations import geometry, mixing, pixel_ops, rand_augment
from PIL import Image, ImageEnhance, ImageOps

import finetunekit
from finetunekit import ConfigError, PluginError
from finetunekit.cli import main
from finetunekit.data.augmentation import AugmentComponent, Augmenter
from finetunekit.system.keyed_random import derive_keys
from finetunekit.system.progress import Progress
from finetunekit.testing import check_augmentation

SIDE = 16


def augmenter(*steps: Any) -> Augmenter:
    return Augmenter([AugmentComponent(i, f"augment[{i}]", part) for i, part in enumerate(steps)])


def photos(count: int, side: int = SIDE) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.float32)


def labels(count: int) -> Any:
    return np.eye(3, dtype=np.float32)[np.arange(count) % 3]


def keys(count: int, seed: int = 0) -> Any:
    return derive_keys(seed, np.arange(count))


def augment(steps: Any, count: int = 64, side: int = SIDE) -> tuple[Any, Any]:
    images, mixed = augmenter(steps)(photos(count, side), labels(count), keys(count))
    return np.asarray(images), np.asarray(mixed)


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (aug.build_flip, aug.FlipOptions(vertical=0.5)),
        (aug.build_random_resized_crop, aug.RandomResizedCropOptions()),
        (aug.build_color_jitter, aug.ColorJitterOptions(hue=0.1)),
        (aug.build_rand_augment, aug.RandAugmentOptions()),
        (aug.build_random_erasing, aug.RandomErasingOptions()),
        (aug.build_mixup, aug.MixupOptions(alpha=1.0)),
        (aug.build_cutmix, aug.CutmixOptions(probability=1.0)),
        (aug.build_keras_layers, aug.KerasLayersOptions()),
    ],
)
def test_augmentations_keep_their_contract(build: Any, options: Any) -> None:
    """Equal in a call, outside a graph and in tf.data; the same keys give the same pixels, others do not."""
    check_augmentation(build, options)


# ---- geometry --------------------------------------------------------------------------------------------------------------------


def test_flip_mirrors_half_of_the_photos_exactly() -> None:
    images, _ = augment(aug.build_flip(aug.FlipOptions()), 400)
    given = photos(400)
    is_flipped = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(images, given, strict=True)])
    is_kept = np.array([np.array_equal(a, b) for a, b in zip(images, given, strict=True)])
    assert (is_flipped ^ is_kept).all()
    assert 160 <= is_flipped.sum() <= 240  # four standard deviations of a fair coin


def test_crops_are_drawn_as_torchvision_draws_them() -> None:
    options = aug.RandomResizedCropOptions()
    box = geometry.draw_crops(options, keys(20_000), 100, 100)
    assert box.is_found.mean() > 0.99
    area, ratio = box.height * box.width / 1e4, box.width / box.height
    assert 0.07 < area.min() < 0.09
    assert (box.top + box.height <= 100).all()
    assert (box.left + box.width <= 100).all()
    # area is uniform where no attempt is turned away: below 3/4 every ratio fits
    parts = np.histogram(area[area < 0.72], bins=8, range=(0.08, 0.72))[0]
    assert np.ptp(parts) / parts.mean() < 0.15
    assert abs(np.log(ratio[area < 0.7]).mean()) < 0.01
    assert np.exp(np.abs(np.log(ratio))).max() < 1.4


def test_a_crop_reads_the_pixels_of_its_box() -> None:
    options = aug.RandomResizedCropOptions(area=(0.25, 0.25), ratio=(1.0, 1.0))
    image = photos(1, 32)
    image[0] = np.arange(32)[:, np.newaxis, np.newaxis] * 4
    made, _ = augmenter(aug.build_random_resized_crop(options))(image, labels(1), keys(1))
    box = geometry.draw_crops(options, derive_keys(keys(1), "component", 0), 32, 32)
    centres = box.top[0] + (np.arange(32) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(np.asarray(made)[0, :, 5, 0], np.clip(centres, 0, 31) * 4, atol=1e-3)


def test_a_flip_after_a_crop_is_one_resampling() -> None:
    steps = (aug.build_random_resized_crop(aug.RandomResizedCropOptions()), aug.build_flip(aug.FlipOptions()))
    assert augmenter(*steps).prepare(keys(4), SIDE, SIDE).matrices.shape == (4, 1, 3, 3)


# ---- colour ----------------------------------------------------------------------------------------------------------------------


def pillow(image: Any) -> Image.Image:
    return Image.fromarray(image.astype(np.uint8))


@pytest.mark.parametrize(
    ("ours", "theirs", "levels"),
    [
        (lambda x: pixel_ops.brightness(x, np.array([1.4])), lambda p: ImageEnhance.Brightness(p).enhance(1.4), 1.01),
        (lambda x: pixel_ops.contrast(x, np.array([0.6])), lambda p: ImageEnhance.Contrast(p).enhance(0.6), 1.51),
        (lambda x: pixel_ops.saturation(x, np.array([1.7])), lambda p: ImageEnhance.Color(p).enhance(1.7), 2.01),
        (lambda x: pixel_ops.sharpness(x, np.array([0.3])), lambda p: ImageEnhance.Sharpness(p).enhance(0.3), 1.51),
        (lambda x: pixel_ops.posterize(x, np.array([3])), lambda p: ImageOps.posterize(p, 3), 0),
        (lambda x: pixel_ops.solarize(x, np.array([128.0])), lambda p: ImageOps.solarize(p, 128), 0),
        (pixel_ops.autocontrast, ImageOps.autocontrast, 1.01),
        (pixel_ops.equalize, ImageOps.equalize, 0),
    ],
)
def test_operations_have_the_pixels_of_pillow(ours: Any, theirs: Any, levels: float) -> None:
    """On a photo whose histogram is uneven; Pillow rounds to whole levels, ours are not rounded."""
    image = (photos(1, 24) / 2 + np.linspace(0, 90, 24)[:, np.newaxis]).round()
    assert np.abs(np.asarray(ours(image.astype(np.float32)))[0] - np.asarray(theirs(pillow(image[0])))).max() <= levels


def test_hue_turns_red_to_green() -> None:
    red = np.zeros((1, 2, 2, 3), np.float32)
    red[..., 0] = 200
    np.testing.assert_allclose(np.asarray(pixel_ops.hue(red, np.array([1 / 3])))[0, 0, 0], [0, 200, 0], atol=1e-3)


def test_jitter_of_one_kind_has_its_range() -> None:
    images, _ = augment(aug.build_color_jitter(aug.ColorJitterOptions(brightness=0.4, contrast=0, saturation=0)), 500)
    given = photos(500)
    factors = (images[:, :2] / np.maximum(given[:, :2], 1)).reshape(500, -1)
    dark = given[:, :2].reshape(500, -1) < 180  # not cut off at white
    factor = np.array([np.median(f[d]) for f, d in zip(factors, dark, strict=True)])
    assert 0.59 < factor.min() < 0.63
    assert 1.37 < factor.max() < 1.41
    assert abs(factor.mean() - 1) < 0.05


def test_rand_augment_draws_every_operation_alike() -> None:
    import tensorflow as tf

    from finetunekit import draw_uniform

    unit = draw_uniform(keys(14_000), 4)
    kinds = (unit[:, [0, 2]] * len(rand_augment.OPERATIONS)).astype(int)
    counts = np.bincount(kinds.ravel(), minlength=14)
    assert counts.min() > 1800  # 2000 expected
    assert counts.max() < 2200
    image = np.repeat(photos(1), 14, axis=0)
    options = aug.RandAugmentOptions(magnitude=9)
    kind, sign = tf.range(14), tf.ones(14)
    moved = rand_augment._move(tf.constant(image), kind, sign, options)
    made = np.asarray(rand_augment._recolour(moved, kind, sign, options.magnitude))
    changed = [name for name, a in zip(rand_augment.OPERATIONS, made, strict=True) if not np.array_equal(a, image[0])]
    assert set(rand_augment.OPERATIONS) - set(changed) <= {"identity", "autocontrast"}  # noise spans [0, 255] already
    np.testing.assert_allclose(made[3][:, : SIDE - 2], image[0][:, 2:], atol=1e-3)  # 150 / 331 of 16 px times 9 / 30


def test_rand_augment_at_magnitude_zero_moves_nothing() -> None:
    import tensorflow as tf

    image = tf.constant(photos(6))
    moved = rand_augment._move(image, tf.range(6), tf.ones(6), aug.RandAugmentOptions(magnitude=0))
    np.testing.assert_array_equal(np.asarray(moved), np.asarray(image))


def test_erased_boxes_have_the_area_asked_for() -> None:
    steps = aug.build_random_erasing(aug.RandomErasingOptions(area=(0.1, 0.2), probability=0.7))
    images, _ = augment(steps, 300, 50)
    erased = (np.abs(images - 127.5) < 1e-3).all(axis=-1).mean(axis=(1, 2))
    assert 0.6 < (erased > 0).mean() < 0.8
    assert erased[erased > 0].min() > 0.08
    assert erased.max() < 0.22
    assert (images[erased == 0] == photos(300, 50)[erased == 0]).all()


# ---- mixing ----------------------------------------------------------------------------------------------------------------------


def test_mixup_blends_labels_as_pixels() -> None:
    steps = aug.build_mixup(aug.MixupOptions(alpha=1.0))
    flat = np.repeat(np.arange(8, dtype=np.float32), SIDE * SIDE * 3).reshape(8, SIDE, SIDE, 3)
    one_hot = np.eye(8, dtype=np.float32)
    images, mixed = (np.asarray(part) for part in augmenter(steps)(flat, one_hot, keys(8)))
    np.testing.assert_allclose(images[:, 0, 0, 0], mixed @ np.arange(8), atol=1e-5)
    partners = (mixed - np.diag(np.diag(mixed))).argmax(axis=1)
    assert sorted(partners) == list(range(8))  # everyone is a partner once, and nobody their own
    assert (partners != np.arange(8)).all()


def test_partners_follow_from_the_keys_of_the_batch() -> None:
    steps = aug.build_mixup(aug.MixupOptions())
    first, again = (np.asarray(augmenter(steps)(photos(8), labels(8), keys(8))[0]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    alone, unmixed = augmenter(steps)(photos(1), labels(1), keys(1))
    np.testing.assert_allclose(alone, photos(1), atol=1e-4)
    np.testing.assert_allclose(unmixed, labels(1), atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    import tensorflow as tf
    from scipy import stats

    unit = np.linspace(0.001, 0.999, 5000)  # between the table's first and last step, where its quantiles bend least
    shares = np.asarray(mixing._draw_beta(alpha, tf.constant(unit)))
    np.testing.assert_allclose(shares, stats.beta(alpha, alpha).ppf(unit), atol=1e-3)


def test_cutmix_mixes_labels_by_area() -> None:
    steps = aug.build_cutmix(aug.CutmixOptions(probability=1.0))
    flat = np.repeat(np.arange(6, dtype=np.float32), SIDE * SIDE * 3).reshape(6, SIDE, SIDE, 3)
    images, mixed = (np.asarray(part) for part in augmenter(steps)(flat, np.eye(6, dtype=np.float32), keys(6)))
    for number in range(6):
        np.testing.assert_allclose((images[number, ..., 0] == number).mean(), mixed[number, number], atol=1e-6)
        assert len(np.unique(images[number])) <= 2
    assert (np.diag(mixed) < 1).sum() >= 4


def test_a_probability_of_zero_mixes_nothing() -> None:
    for steps in (
        aug.build_mixup(aug.MixupOptions(probability=0.0)),
        aug.build_cutmix(aug.CutmixOptions(probability=0.0)),
    ):
        images, mixed = augment(steps, 8)
        np.testing.assert_array_equal(images, photos(8))
        np.testing.assert_array_equal(mixed, labels(8))


# ---- Keras' layers ---------------------------------------------------------------------------------------------------------------


def stack(*layers: tuple[str, dict[str, Any]]) -> Any:
    return aug.KerasLayersOptions(
        layers=tuple(aug.keras_layers.KerasLayer(layer=name, arguments=given) for name, given in layers)
    )


def test_keras_layers_repeat_with_their_keys_and_are_declared_impure() -> None:
    options = stack(("RandomRotation", {"factor": 0.2}), ("RandomContrast", {"factor": 0.5}))
    ours = augmenter(aug.build_keras_layers(options))
    assert not ours.is_deterministic
    first, again, other = (np.asarray(ours(photos(4), labels(4), keys(4, seed))[0]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first, photos(4))


def test_layers_that_are_not_allowed_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"layers\[0\]: 'Lambda' is not allowed"):
        aug.build_keras_layers(stack(("Lambda", {})))
    with pytest.raises(ConfigError, match=r"RandomFlip does not take 'mod'\. Did you mean 'mode'\?"):
        augmenter(aug.build_keras_layers(stack(("RandomFlip", {"mod": "horizontal"})))).trace(8, 8, 3)
    with pytest.raises(ConfigError, match="RandomRotation: "):
        augmenter(aug.build_keras_layers(stack(("RandomRotation", {"factor": "much"})))).trace(8, 8, 3)
    with pytest.raises(ConfigError, match="does not take 'seed'"):
        augmenter(aug.build_keras_layers(stack(("RandomFlip", {"seed": 1})))).trace(8, 8, 3)


def test_ranges_that_descend_are_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match=r"the lower bound 1\.0 is above the upper bound 0\.5"):
        aug.RandomResizedCropOptions(area=(1.0, 0.5))


def test_what_is_wrong_with_a_step_shows_when_it_is_traced() -> None:
    from finetunekit import Augmentation

    broken = augmenter((Augmentation(apply=lambda images, labels, keys: (images[:, 1:], labels)),))
    with pytest.raises(PluginError, match="apply must return images as a float32 tensor"):
        broken.trace(8, 8, 3)


IMPURE = (
    "augment=[{name: keras_layers, layers: [{layer: RandomFlip, arguments: {mode: horizontal}}]}]",
    "stages[0].epochs=1",
)


@pytest.mark.usefixtures("own_cache")
def test_plan_and_run_say_what_is_not_pure(tiny_yaml: Path) -> None:
    settings = [part for setting in IMPURE for part in ("--set", setting)]
    result = CliRunner().invoke(main, ["plan", str(tiny_yaml), *settings])
    assert "note: augmentation 'keras_layers' is not pure: cache.mode: bank is refused" in result.output
    assert "note:" not in CliRunner().invoke(main, ["plan", str(tiny_yaml)]).output
    said = io.StringIO()
    finetunekit.run(str(tiny_yaml), settings=IMPURE, out=tiny_yaml.parent / "runs", progress=Progress(said))
    assert "augmentation 'keras_layers' is not pure" in said.getvalue()


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize(
    ("augment", "match"), [("keras_layers", "an augmentation here is not deterministic"), ("mixup", "mixing features")]
)
def test_a_bank_refuses_what_it_cannot_keep(tiny_yaml: Path, augment: str, match: str) -> None:
    settings = (f"augment=[{{name: {augment}}}]", "cache.mode=bank")
    with pytest.raises(ConfigError, match=match):
        finetunekit.run(
            str(tiny_yaml), settings=settings, out=tiny_yaml.parent / "runs", progress=Progress(is_quiet=True)
        )
