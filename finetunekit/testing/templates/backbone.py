"""Backbone `my_component`: two convolutions, to be replaced by yours."""

from __future__ import annotations

from pydantic import Field

from finetunekit import Backbone, BackboneSpec, Options, PixelContract, hookimpl
from finetunekit.hookspecs import RegisterBackbone

#: What is known about it without building it. `weight_sources` says where to get pretrained arrays; the engine fetches
#: and checks them. Without sources a preset says `weights: {mode: random}`.
SPEC = BackboneSpec(
    title="Two convolutions",
    pixels=PixelContract(scale=1 / 255),
    native_size_px=64,
    min_size_px=16,
    parameters=2_768,
    licence="Apache-2.0",
    attribution="",
    pretrained_on="nothing",
    published="none",
    reference="this file",
)


class MyComponentOptions(Options):
    """Options of `my_component`."""

    channels: int = Field(16, ge=1, le=1024, description="Channels of each convolution.")


def build_my_component(options: MyComponentOptions, image_size_px: int) -> Backbone:
    """Build the network with Keras' initial weights; the engine loads pretrained ones.

    Args:
        options: How wide it is.
        image_size_px: Side of the square input. Raise `finetunekit.PluginError` for a size it cannot take.

    Returns:
        Model `(batch, image_size_px, image_size_px, 3)` float32 → map `(batch, side, side, channels)` and its blocks.
        Every layer has a name of its own, the same in each build: weights and freezing go by name.
    """
    import keras

    pixels = keras.Input((image_size_px, image_size_px, 3), name="pixels")
    x = keras.layers.Conv2D(options.channels, 3, strides=2, activation="relu", name="conv1")(pixels)
    x = keras.layers.Conv2D(options.channels, 3, strides=2, activation="relu", name="conv2")(x)
    blocks = {"block1": ("conv1",), "block2": ("conv2",)}
    return Backbone(keras.Model(pixels, x, name="my_component"), "map", blocks)


@hookimpl
def register_backbones(register: RegisterBackbone) -> None:
    """One backbone."""
    register("my_component", build_my_component, MyComponentOptions, spec=SPEC)
