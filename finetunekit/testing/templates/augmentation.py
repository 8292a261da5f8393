"""Augmentation `my_component`: darkens each training photo by its own factor."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Augmentation, Options, draw_uniform, hookimpl
from finetunekit.hookspecs import Register

if TYPE_CHECKING:
    import tensorflow as tf


class MyComponentOptions(Options):
    """Options of `my_component`."""

    strength: float = Field(0.3, ge=0, lt=1, description="Largest fraction of the light that is removed.")


def build_my_component(options: MyComponentOptions) -> tuple[Augmentation, ...]:
    """One step that changes pixels. A step that moves them gives `affine=` instead (see `Augmentation`)."""
    return (Augmentation(apply=partial(_darken, options)),)


def _darken(
    options: MyComponentOptions, images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images `(batch, height, width, 3)` float32 in [0, 255], labels `(batch, classes)`, keys `(batch,)`.

    All chance comes from the keys: the same key gives the same photo, whatever stands beside it.
    """
    import tensorflow as tf

    unit = tf.cast(draw_uniform(keys, 1), tf.float32)  # (batch, 1)
    factor = 1.0 - options.strength * unit
    return images * factor[:, tf.newaxis, tf.newaxis, :], labels


@hookimpl
def register_augmentations(register: Register) -> None:
    """One augmentation."""
    register("my_component", build_my_component, MyComponentOptions)
