"""EfficientNet-Lite0 to Lite2 without their classification top.

No squeeze-and-excitation, ReLU6 for swish, and neither the stem nor the head scaled.
Source: github.com/tensorflow/tpu, models/official/efficientnet/lite; Tan & Le 2019, arXiv:1905.11946.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetunekit import Backbone, Options, PluginError

if TYPE_CHECKING:
    import keras

MIN_SIZE_PX = 32
STEM_FILTERS, HEAD_FILTERS = 32, 1280
#: Source: efficientnet_builder.py, `batch_norm_epsilon`, `batch_norm_momentum`.
BN_EPSILON, BN_MOMENTUM = 1e-3, 0.99


@dataclass(frozen=True, slots=True)
class Stage:
    """Inverted bottlenecks of one resolution: the first has the stride, the others a shortcut."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


#: Source: efficientnet_builder.py, `_DEFAULT_BLOCKS_ARGS`.
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """Width and depth multipliers and native size. Source: efficientnet_lite_builder.py, `efficientnet_lite_params`."""

    name: str
    width: float
    depth: float
    size_px: int


LITE0 = Variant("efficientnet_lite0", 1.0, 1.0, 224)
LITE1 = Variant("efficientnet_lite1", 1.0, 1.1, 240)
LITE2 = Variant("efficientnet_lite2", 1.1, 1.1, 260)


class EfficientNetLiteOptions(Options):
    """EfficientNet-Lite has no options: its variants are backbones of their own."""


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """One inverted bottleneck of a variant, and the names of its layers' beginning, such as `block2a`."""

    name: str
    kernel: int
    stride: int
    expansion: int
    filters_in: int
    filters: int


def bottlenecks(variant: Variant) -> tuple[Bottleneck, ...]:
    """Every inverted bottleneck of a variant, from input to output."""
    result, filters_in = [], STEM_FILTERS
    for number, stage in enumerate(STAGES, 1):
        filters = _round_filters(stage.filters * variant.width)
        # first and last stage keep their depth. Source: efficientnet_model.py, `fix_head_stem`
        repeats = stage.repeats if number in (1, len(STAGES)) else math.ceil(stage.repeats * variant.depth)
        for repeat in range(repeats):
            stride = stage.stride if repeat == 0 else 1
            name = f"block{number}{'abcdefgh'[repeat]}"
            result.append(Bottleneck(name, stage.kernel, stride, stage.expansion, filters_in, filters))
            filters_in = filters
    return tuple(result)


def _round_filters(filters: float) -> int:
    """To a multiple of 8, never more than 10 % down. Source: efficientnet_model.py, `round_filters`."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


def build_efficientnet_lite(variant: Variant, image_size_px: int) -> Backbone:
    """Build one variant with Keras' initial weights.

    Args:
        variant: One of `LITE0`, `LITE1`, `LITE2`.
        image_size_px: Side of the square input, at least 32.

    Returns:
        Model `(batch, image_size_px, image_size_px, 3)` RGB float32, (pixel - 127) / 128 → map `(batch, side, side, 1280)` after the
        head's convolution, normalisation and ReLU6, `side` = ceil(image_size_px / 32). Blocks `stem`, `block1` … `block7`, `top`.

    Raises:
        PluginError: If `image_size_px` is below 32.

    Source: efficientnet_model.py of the repository named above.
    """
    import keras

    if image_size_px < MIN_SIZE_PX:
        raise PluginError(f"{variant.name}: pixels.size_px is {image_size_px}; at least {MIN_SIZE_PX} is needed.")
    inputs = keras.Input((image_size_px, image_size_px, 3), name="input")
    x = _conv_bn(inputs, "stem", STEM_FILTERS, kernel=3, stride=2)  # (batch, size / 2, size / 2, 32)
    for part in bottlenecks(variant):
        x = _bottleneck(x, part)
    x = _conv_bn(x, "top", HEAD_FILTERS, kernel=1, stride=1)  # (batch, size / 32, size / 32, 1280)
    model = keras.Model(inputs, x, name=variant.name)
    return Backbone(model=model, kind="map", blocks=_blocks(model))


def _blocks(model: keras.Model) -> dict[str, tuple[str, ...]]:
    """`block2a_expand_conv` belongs to `block2`."""
    names = ("stem", *(f"block{number}" for number in range(1, len(STAGES) + 1)), "top")
    return {name: tuple(layer.name for layer in model.layers if layer.name.startswith(name)) for name in names}


def _bottleneck(x: keras.KerasTensor, part: Bottleneck) -> keras.KerasTensor:
    """Expand, filter each channel, project; add the input where shapes allow."""
    import keras

    shortcut = x
    if part.expansion != 1:
        x = _conv_bn(x, f"{part.name}_expand", part.filters_in * part.expansion, kernel=1, stride=1)
    x = keras.layers.DepthwiseConv2D(
        part.kernel, part.stride, padding="same", use_bias=False, name=f"{part.name}_depthwise_conv"
    )(x)
    x = _relu6(_bn(x, f"{part.name}_depthwise"), f"{part.name}_depthwise")
    x = _bn(_conv(x, f"{part.name}_project", part.filters, kernel=1, stride=1), f"{part.name}_project")
    if part.stride == 1 and part.filters_in == part.filters:
        x = keras.layers.Add(name=f"{part.name}_add")([x, shortcut])
    return x


def _conv_bn(x: keras.KerasTensor, name: str, filters: int, *, kernel: int, stride: int) -> keras.KerasTensor:
    return _relu6(_bn(_conv(x, name, filters, kernel=kernel, stride=stride), name), name)


def _conv(x: keras.KerasTensor, name: str, filters: int, *, kernel: int, stride: int) -> keras.KerasTensor:
    """`same` pads as TensorFlow does, the odd row and column last: what these weights were trained with."""
    import keras

    return keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)


def _bn(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    import keras

    return keras.layers.BatchNormalization(momentum=BN_MOMENTUM, epsilon=BN_EPSILON, name=f"{name}_bn")(x)


def _relu6(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    import keras

    return keras.layers.ReLU(max_value=6.0, name=f"{name}_relu6")(x)
