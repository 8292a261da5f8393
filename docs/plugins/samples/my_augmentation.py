"""An augmentation: a grey square hides a part of each training photo."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Augmentation, Options, draw_uniform, hookimpl
from finetunekit.hookspecs import Register

if TYPE_CHECKING:
    import tensorflow as tf


class CutoutOptions(Options):
    """Options of `cutout`."""

    side: float = Field(0.4, gt=0, le=1, description="Side of the square, as a fraction of the photo's.")
    grey: float = Field(127.5, ge=0, le=255, description="Grey level of the square.")


def build_cutout(options: CutoutOptions) -> tuple[Augmentation, ...]:
    """One step that changes pixels. A step that moves them would give `affine=` instead.

    Source: DeVries and Taylor 2017, section 3.1, arXiv:1708.04552: the centre is anywhere, so that part may lie outside.
    """
    return (Augmentation(apply=partial(_cut_out, options)),)


def _cut_out(
    options: CutoutOptions, images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images `(batch, height, width, 3)` float32 in [0, 255]; all chance comes from the keys, `(batch,)` int64."""
    import tensorflow as tf

    centres = tf.cast(draw_uniform(keys, 2), tf.float32)  # (batch, 2): row and column, as fractions
    rows = _is_covered(tf.shape(images)[1], centres[:, 0], options.side)  # (batch, height)
    columns = _is_covered(tf.shape(images)[2], centres[:, 1], options.side)  # (batch, width)
    square = rows[:, :, tf.newaxis, tf.newaxis] & columns[:, tf.newaxis, :, tf.newaxis]
    return tf.where(square, options.grey, images), labels


def _is_covered(length: tf.Tensor, centres: tf.Tensor, side: float) -> tf.Tensor:
    """Which pixel centres lie within half a side of the square's centre: `(batch, length)` bool."""
    import tensorflow as tf

    places = (tf.cast(tf.range(length), tf.float32) + 0.5) / tf.cast(length, tf.float32)
    return tf.abs(places[tf.newaxis, :] - centres[:, tf.newaxis]) < side / 2


@hookimpl
def register_augmentations(register: Register) -> None:
    """One augmentation."""
    register("cutout", build_cutout, CutoutOptions)
