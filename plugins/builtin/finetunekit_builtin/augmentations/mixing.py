"""Mixup and CutMix: photos of a batch are mixed, and their labels with them."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Augmentation, Options, draw_uniform

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from numpy.typing import NDArray

_STEPS = 4096
_ORDER, _IS_DUE, _AMOUNT, _TOP, _LEFT = range(5)


class MixupOptions(Options):
    """Options of `mixup`."""

    alpha: float = Field(0.2, gt=0, le=100, description="The photo's share is drawn from Beta(alpha, alpha).")
    probability: float = Field(1.0, ge=0, le=1, description="Probability that a photo is mixed at all.")


class CutmixOptions(Options):
    """Options of `cutmix`."""

    alpha: float = Field(1.0, gt=0, le=100, description="The fraction that stays is drawn from Beta(alpha, alpha).")
    probability: float = Field(0.5, ge=0, le=1, description="Probability that a photo is mixed at all.")


def build_mixup(options: MixupOptions) -> tuple[Augmentation, ...]:
    """Blend each photo with another of its batch, and their labels in the same proportion.

    Every photo has a share of its own, and a partner that follows from the keys of the batch alone: the photos stand in a circle, in an
    order drawn from the keys, and each is mixed with the next.

    Source: Zhang et al. 2018, section 2 and 3.1 (alpha 0.2), arXiv:1710.09412.
    """
    return (Augmentation(apply=partial(_mixup, options), scope="batch"),)


def build_cutmix(options: CutmixOptions) -> tuple[Augmentation, ...]:
    """Put a box of another photo of the batch into each, and mix labels by the area that the box has within the photo.

    Partners as in `mixup`.

    Source: Yun et al. 2019, section 3.1 (alpha 1) and 4.1 (probability 0.5), arXiv:1905.04899; the box as CutMix of torchvision 0.20.
    """
    return (Augmentation(apply=partial(_cutmix, options), scope="batch"),)


def _mixup(options: MixupOptions, images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Images `(batch, height, width, 3)` float32, labels `(batch, classes)` float32."""
    import tensorflow as tf

    unit = draw_uniform(keys, 5)
    partner = _partners(unit)
    share = tf.where(unit[:, _IS_DUE] < options.probability, _draw_beta(options.alpha, unit[:, _AMOUNT]), 1.0)
    return _mix(images, partner, share[:, tf.newaxis, tf.newaxis, tf.newaxis]), _mix(
        labels, partner, share[:, tf.newaxis]
    )


def _cutmix(
    options: CutmixOptions, images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images `(batch, height, width, 3)` float32, labels `(batch, classes)` float32."""
    import tensorflow as tf

    height_px, width_px = int(images.shape[1]), int(images.shape[2])
    unit = draw_uniform(keys, 5)
    partner = _partners(unit)
    kept = tf.cast(_draw_beta(options.alpha, unit[:, _AMOUNT]), tf.float64)
    half = tf.where(unit[:, _IS_DUE] < options.probability, 0.5 * tf.sqrt(1.0 - kept), 0.0)
    rows = _band(height_px, unit[:, _TOP], half)
    columns = _band(width_px, unit[:, _LEFT], half)
    box = tf.cast(rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :], tf.float32)[..., tf.newaxis]
    share = 1.0 - tf.reduce_mean(box, axis=[1, 2])  # (batch, 1)
    return _mix(images, partner, 1.0 - box), _mix(labels, partner, share)


def _partners(unit: tf.Tensor) -> tf.Tensor:
    """`(batch,)`: the next photo of a circle in an order drawn from the keys; a photo alone is its own partner."""
    import tensorflow as tf

    order = tf.argsort(unit[:, _ORDER], stable=True)
    return tf.scatter_nd(order[:, tf.newaxis], tf.roll(order, -1, axis=0), tf.shape(order))


def _mix(tensor: tf.Tensor, partner: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    share = tf.cast(share, tf.float32)
    return share * tensor + (1.0 - share) * tf.gather(tensor, partner)


def _draw_beta(alpha: float, unit: tf.Tensor) -> tf.Tensor:
    """Beta(alpha, alpha), `(batch,)` float32, from uniform numbers by the inverse of its distribution function."""
    import tensorflow as tf

    place = tf.cast(unit, tf.float32) * _STEPS
    below = tf.minimum(tf.cast(place, tf.int32), _STEPS - 1)
    table = tf.constant(_beta_quantiles(alpha), tf.float32)
    weight = place - tf.cast(below, tf.float32)
    return (1.0 - weight) * tf.gather(table, below) + weight * tf.gather(table, below + 1)


@cache
def _beta_quantiles(alpha: float) -> NDArray[np.float64]:
    """Quantiles of Beta(alpha, alpha) at 0, 1 / 4096, … 1."""
    import numpy as np
    from scipy.special import betaincinv

    quantiles: NDArray[np.float64] = betaincinv(alpha, alpha, np.linspace(0, 1, _STEPS + 1))
    return quantiles


def _band(length: int, unit: tf.Tensor, half: tf.Tensor) -> tf.Tensor:
    """`(batch, length)`: places in the box along one axis, cut off at the photo's border; none where `half` is 0."""
    import tensorflow as tf

    centre, reach = tf.floor(unit * length), tf.floor(half * length)
    places = tf.range(length, dtype=tf.float64)[tf.newaxis]
    return (places >= (centre - reach)[:, tf.newaxis]) & (places < (centre + reach)[:, tf.newaxis])
