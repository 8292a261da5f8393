"""Colour jitter: brightness, contrast, saturation and hue, in an order drawn for each photo."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Augmentation, Options, draw_uniform

from . import pixel_ops

if TYPE_CHECKING:
    import tensorflow as tf

_HUE = 3


class ColorJitterOptions(Options):
    """Options of `color_jitter`."""

    brightness: float = Field(0.4, ge=0, le=1, description="Factor of brightness, uniform in [1 - b, 1 + b].")
    contrast: float = Field(0.4, ge=0, le=1, description="Factor of contrast, uniform in [1 - c, 1 + c].")
    saturation: float = Field(0.4, ge=0, le=1, description="Factor of saturation, uniform in [1 - s, 1 + s].")
    hue: float = Field(0.0, ge=0, le=0.5, description="Rotation of the hue, uniform in ± this fraction of the circle.")


def build_color_jitter(options: ColorJitterOptions) -> tuple[Augmentation, ...]:
    """Change brightness, contrast, saturation and hue; each photo has an order of its own.

    Source: Howard 2013, section 2, arXiv:1312.5402; draws and order as ColorJitter of torchvision 0.20, 0.4 three times as in
    He et al. 2020 (MoCo), appendix, arXiv:1911.05722.
    """
    strengths = (options.brightness, options.contrast, options.saturation, options.hue)
    return (Augmentation(apply=partial(_jitter, strengths)),) if any(strengths) else ()


def _jitter(
    strengths: tuple[float, ...], images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images `(batch, height, width, 3)` float32 in [0, 255]; the first four numbers of a key are strengths, the others the order."""
    import tensorflow as tf

    unit = tf.cast(draw_uniform(keys, 8), tf.float32)
    signed = (2 * unit[:, :4] - 1) * tf.constant(strengths)
    active = [kind for kind, strength in enumerate(strengths) if strength]
    order = tf.gather(
        tf.constant(active), tf.argsort(tf.gather(unit[:, 4:], active, axis=1), axis=1)
    )  # (batch, active)
    for slot in range(len(active)):
        images = _apply_slot(images, order[:, slot], signed, is_hue_due=bool(strengths[_HUE]))
    return images, labels


def _apply_slot(images: tf.Tensor, kind: tf.Tensor, signed: tf.Tensor, *, is_hue_due: bool) -> tf.Tensor:
    """Brightness, contrast and saturation blend with black, the mean grey or the grey photo, so one blend does for all three."""
    import tensorflow as tf

    luma = pixel_ops.grey(images)
    mean = tf.reduce_mean(luma, axis=[1, 2, 3], keepdims=True)
    number = pixel_ops.per_photo(kind)
    other = tf.where(number == 0, 0.0, tf.where(number == 1, mean, luma))
    strength = tf.gather(signed, kind, batch_dims=1)
    blended = pixel_ops.blend(images, other, tf.where(kind == _HUE, 1.0, 1.0 + strength))
    if not is_hue_due:
        return blended
    turned = tf.where(kind == _HUE)  # (photos, 1): each photo's hue is turned in one slot, so it is computed once
    photos = tf.gather(images, turned[:, 0])
    return tf.tensor_scatter_nd_update(blended, turned, pixel_ops.hue(photos, tf.gather(strength, turned[:, 0])))
