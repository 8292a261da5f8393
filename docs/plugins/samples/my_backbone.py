"""A backbone of three residual blocks, small enough to train from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Backbone, BackboneSpec, Options, PixelContract, hookimpl
from finetunekit.hookspecs import RegisterBackbone

if TYPE_CHECKING:
    import keras

BLOCKS = 3
SPEC = BackboneSpec(
    title="Three residual blocks",
    pixels=PixelContract(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)),  # RGB in [-1, 1]
    native_size_px=64,
    min_size_px=16,
    parameters=72_080,
    licence="Apache-2.0",
    attribution="",
    pretrained_on="nothing",
    published="none",
    reference="He et al. 2016, figure 2, arXiv:1512.03385, without batch normalisation",
)


class SmallOptions(Options):
    """Options of `small_residual`."""

    channels: int = Field(
        16, ge=1, le=256, description="Channels of the first block; each block after it has twice as many."
    )


def build_small(options: SmallOptions, image_size_px: int) -> Backbone:
    """Build the network with Keras' initial weights.

    Args:
        options: How wide it is.
        image_size_px: Side of the square input.

    Returns:
        Model `(batch, size, size, 3)` → map `(batch, side, side, 4 * channels)`, `side` about an eighth of `size`; its blocks.
    """
    import keras

    pixels = keras.Input((image_size_px, image_size_px, 3), name="pixels")
    x, blocks = pixels, {}
    for number in range(1, BLOCKS + 1):
        x = _residual_block(x, f"block{number}", options.channels * 2 ** (number - 1))
        blocks[f"block{number}"] = tuple(f"block{number}_{layer}" for layer in ("down", "conv", "add", "relu"))
    return Backbone(keras.Model(pixels, x, name="small_residual"), "map", blocks)


def _residual_block(x: keras.KerasTensor, name: str, channels: int) -> keras.KerasTensor:
    """Halve the sides, then add one convolution to what came out: `(b, h, w, _)` → `(b, h / 2, w / 2, channels)`."""
    import keras

    down = keras.layers.Conv2D(channels, 3, strides=2, padding="same", activation="relu", name=f"{name}_down")(x)
    conv = keras.layers.Conv2D(channels, 3, padding="same", name=f"{name}_conv")(down)
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([down, conv]))


@hookimpl
def register_backbones(register: RegisterBackbone) -> None:
    """One backbone."""
    register("small_residual", build_small, SmallOptions, spec=SPEC)
