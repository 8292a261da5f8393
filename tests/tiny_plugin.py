"""A plugin file for tests: a backbone of two convolutions with BatchNorm, one with a skip connection, one with dropout."""

from __future__ import annotations

from finetunekit import Backbone, BackboneSpec, Options, PixelContract, hookimpl

SPEC = BackboneSpec(
    title="Tiny",
    pixels=PixelContract(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)),
    native_size_px=8,
    min_size_px=8,
    parameters=300,
    licence="CC0-1.0",
    attribution="",
    pretrained_on="nothing",
    published="none",
    reference="none",
)


class TinyOptions(Options):
    """Options of the tiny backbones."""

    batch_norm: bool = False
    dropout: float = 0.0
    skip: bool = False


def build_tiny(options: TinyOptions, image_size_px: int) -> Backbone:
    """Input, two convolutions of 4 channels with what the options add after the first, pooling."""
    import keras

    inputs = keras.Input((image_size_px, image_size_px, 3), name="input")
    first = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv1")(inputs)
    x = first
    if options.batch_norm:
        x = keras.layers.BatchNormalization(name="norm")(x)
    if options.dropout:
        x = keras.layers.Dropout(options.dropout, name="drop")(x)
    x = keras.layers.MaxPooling2D(name="pool1")(x) if not options.skip else x
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv2")(x)
    if options.skip:
        x = keras.layers.Add(name="add")([x, first])
    return Backbone(keras.Model(inputs, x, name="tiny"), "map", {"block1": ("conv1",), "block2": ("conv2",)})


@hookimpl
def register_backbones(register):  # noqa: ANN001, ANN201
    register("tiny", build_tiny, TinyOptions, spec=SPEC)
