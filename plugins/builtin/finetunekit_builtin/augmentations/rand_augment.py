"""RandAugment: a few operations out of fourteen for each photo, all at one magnitude."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from finetunekit import Augmentation, Fill, Options, draw_uniform, resample

from . import pixel_ops

if TYPE_CHECKING:
    import tensorflow as tf

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
_FIRST_COLOUR = OPERATIONS.index("brightness")
_SHEAR, _TRANSLATION, _ROTATION_DEGREES, _BLEND = 0.3, 150 / 331, 30.0, 0.9


class RandAugmentOptions(Options):
    """Options of `rand_augment`."""

    operations: int = Field(2, ge=1, le=10, description="Operations applied to each photo, one after the other.")
    magnitude: int = Field(9, ge=0, le=30, description="Strength of all operations, 0 to 30.")
    grey: float = Field(0.0, ge=0, le=255, description="Grey level that fills the space outside the photo.")


def build_rand_augment(options: RandAugmentOptions) -> tuple[Augmentation, ...]:
    """Apply to each photo operations drawn out of fourteen.

    Photos are moved bilinearly, where torchvision reads the nearest pixel by default.

    Source: Cubuk et al. 2020, section 3, arXiv:1909.13719; operations, magnitudes in 31 bins and signs as RandAugment of torchvision
    0.20, transforms/autoaugment.py.
    """
    return (Augmentation(apply=partial(_rand_augment, options)),)


def _rand_augment(
    options: RandAugmentOptions, images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images `(batch, height, width, 3)` float32 in [0, 255]; each operation of a photo has a kind and a sign."""
    import tensorflow as tf

    unit = draw_uniform(keys, 2 * options.operations)
    for slot in range(options.operations):
        kind = tf.cast(unit[:, 2 * slot] * len(OPERATIONS), tf.int32)
        sign = tf.where(unit[:, 2 * slot + 1] < 0.5, -1.0, 1.0)
        images = _move(images, kind, sign, options)
        images = _recolour(images, kind, sign, options.magnitude)
    return images, labels


def _move(images: tf.Tensor, kind: tf.Tensor, sign: tf.Tensor, options: RandAugmentOptions) -> tf.Tensor:
    """The five operations that move pixels, for all photos at once; the others get the identity, which changes nothing."""
    import tensorflow as tf

    height_px, width_px = int(images.shape[1]), int(images.shape[2])
    level = tf.cast(sign, tf.float64) * (options.magnitude / 30)
    shear_x, shear_y, shift_x, shift_y, turn = (
        tf.where(kind == number, level, tf.zeros_like(level)) for number in range(1, _FIRST_COLOUR)
    )
    angle = turn * (_ROTATION_DEGREES * 3.141592653589793 / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # rows first: input (row, column) of an output pixel, shears about the top left corner, turns about the centre
    row, column = (height_px - 1) / 2, (width_px - 1) / 2
    a, b, c, d = cos, shear_y * _SHEAR - sin, shear_x * _SHEAR + sin, cos
    top = (1 - cos) * row + sin * column + shear_y * (_SHEAR / 2) + _whole(shift_y * (_TRANSLATION * height_px))
    left = (1 - cos) * column - sin * row + shear_x * (_SHEAR / 2) + _whole(shift_x * (_TRANSLATION * width_px))
    zero, one = tf.zeros_like(level), tf.ones_like(level)
    rows = [tf.stack(entries, axis=1) for entries in ((a, b, top), (c, d, left), (zero, zero, one))]
    return resample(images, tf.stack(rows, axis=1), Fill("constant", options.grey))


def _whole(shift: tf.Tensor) -> tf.Tensor:
    """Towards zero, as torchvision's `int`."""
    import tensorflow as tf

    return tf.sign(shift) * tf.floor(tf.abs(shift))


def _recolour(images: tf.Tensor, kind: tf.Tensor, sign: tf.Tensor, magnitude: int) -> tf.Tensor:
    """The others: photos are dealt out by operation, so that each is computed for its own photos only."""
    import tensorflow as tf

    part = tf.maximum(kind - _FIRST_COLOUR + 1, 0)  # 0: nothing to do
    count = len(OPERATIONS) - _FIRST_COLOUR + 1
    groups = tf.dynamic_partition(images, part, count)
    signs = tf.dynamic_partition(sign, part, count)
    changed = [groups[0]]
    for name, photos, own in zip(OPERATIONS[_FIRST_COLOUR:], groups[1:], signs[1:], strict=True):
        changed.append(_operate(name, photos, tf.cast(own, tf.float32), magnitude))
    places = tf.dynamic_partition(tf.range(tf.shape(images)[0]), part, count)
    return tf.ensure_shape(tf.dynamic_stitch(places, changed), images.shape)


def _operate(name: str, photos: tf.Tensor, sign: tf.Tensor, magnitude: int) -> Any:
    import tensorflow as tf

    blends = {
        "brightness": pixel_ops.brightness,
        "color": pixel_ops.saturation,
        "contrast": pixel_ops.contrast,
        "sharpness": pixel_ops.sharpness,
    }
    if name in blends:
        return blends[name](photos, 1.0 + sign * (_BLEND * magnitude / 30))
    if name == "posterize":
        return pixel_ops.posterize(photos, tf.ones_like(sign) * (8 - round(magnitude / (30 / 4))))
    if name == "solarize":
        return pixel_ops.solarize(photos, tf.ones_like(sign) * (255.0 - 255.0 * magnitude / 30))
    return pixel_ops.autocontrast(photos) if name == "autocontrast" else pixel_ops.equalize(photos)
