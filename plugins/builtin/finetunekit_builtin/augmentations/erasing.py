"""Random erasing: a box of each photo becomes one grey level."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Augmentation, Options, draw_uniform

from .boxes import COLUMNS, AreaRange, RatioRange, draw_boxes

if TYPE_CHECKING:
    import tensorflow as tf


class RandomErasingOptions(Options):
    """Options of `random_erasing`."""

    probability: float = Field(0.5, ge=0, le=1, description="Probability that a box is erased from a photo.")
    area: AreaRange = Field(
        (0.02, 1 / 3), description="Fraction of the photo's area that is erased: lowest and highest."
    )
    ratio: RatioRange = Field((0.3, 3.3), description="Width / height of the box: lowest and highest.")
    grey: float = Field(127.5, ge=0, le=255, description="Grey level of the box.")


def build_random_erasing(options: RandomErasingOptions) -> tuple[Augmentation, ...]:
    """Erase a box of random area, aspect ratio and place.

    The grey level stands for the mean of the pixels, as torchvision's 0 does after normalisation; the paper's noise is not offered.

    Source: Zhong et al. 2020, algorithm 1, arXiv:1708.04896; numbers and draws as RandomErasing of torchvision 0.20, whose area
    reaches 0.33.
    """
    return (Augmentation(apply=partial(_erase, options)),)


def _erase(
    options: RandomErasingOptions, images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images `(batch, height, width, 3)` float32 in [0, 255]."""
    import tensorflow as tf

    height_px, width_px = int(images.shape[1]), int(images.shape[2])
    unit = draw_uniform(keys, 1 + COLUMNS)
    is_due = unit[:, 0] < options.probability
    xp, area, ratio = tf.experimental.numpy, options.area, options.ratio
    box = draw_boxes(xp, unit[:, 1:], height_px, width_px, area, ratio, spare_px=1)
    rows = _is_between(height_px, box.top, box.height)
    columns = _is_between(width_px, box.left, box.width)
    erased = rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :] & (is_due & box.is_found)[:, tf.newaxis, tf.newaxis]
    return tf.where(erased[..., tf.newaxis], options.grey, images), labels


def _is_between(length: int, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """`(batch, length)` bool."""
    import tensorflow as tf

    places = tf.range(length, dtype=tf.float64)[tf.newaxis]
    return (places >= start[:, tf.newaxis]) & (places < (start + size)[:, tf.newaxis])
