"""A network of `keras.applications` with your own settings: MobileNet at a quarter of its width."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import (
    Backbone,
    BackboneSpec,
    Options,
    PixelContract,
    PluginError,
    count_names_anew,
    hookimpl,
    leaf_layers,
)
from finetunekit.hookspecs import RegisterBackbone

if TYPE_CHECKING:
    import keras

STEP_PX = 32
SPEC = BackboneSpec(
    title="MobileNet, narrow",
    pixels=PixelContract(
        scale=1 / 127.5, mean=(1.0, 1.0, 1.0)
    ),  # keras.applications.mobilenet.preprocess_input: [-1, 1]
    native_size_px=224,
    min_size_px=32,
    parameters=218_544,
    licence="Apache-2.0",
    attribution="",
    pretrained_on="nothing",
    published="none",
    reference="Howard et al. 2017, arXiv:1704.04861",
)


class NarrowOptions(Options):
    """Options of `mobilenet_narrow`."""

    width: float = Field(0.25, gt=0, le=1, description="Share of the channels of the full network: Keras' `alpha`.")


def build_narrow(options: NarrowOptions, image_size_px: int) -> Backbone:
    """Build the network without its classification top, with Keras' initial weights.

    Args:
        options: How wide it is.
        image_size_px: Side of the square input; a multiple of 32.

    Returns:
        Model `(batch, image_size_px, image_size_px, 3)` → map `(batch, image_size_px / 32, image_size_px / 32, channels)`, and its blocks.

    Raises:
        PluginError: If `image_size_px` is not a multiple of 32.
    """
    import keras

    if image_size_px % STEP_PX:
        raise PluginError(
            f"mobilenet_narrow: pixels.size_px must be a multiple of {STEP_PX}. Received: {image_size_px}"
        )
    pixels = keras.Input((image_size_px, image_size_px, 3), name="pixels")
    whole = keras.applications.MobileNet(alpha=options.width, include_top=False, weights=None, input_tensor=pixels)
    model = keras.Model(pixels, whole.output, name="mobilenet_narrow")
    count_names_anew(model)  # layers that Keras numbers through the process are called the same in each build
    return Backbone(model, kind="map", blocks=blocks_of(model))


def blocks_of(model: keras.Model) -> dict[str, tuple[str, ...]]:
    """Block → its layers, as policies freeze them: `conv_dw_3_bn` and `conv_pw_3` are of `block3`, what comes before is the stem."""
    blocks: dict[str, list[str]] = {"stem": []}
    for path, _ in list(leaf_layers(model))[1:]:  # the input belongs to none
        found = re.search(r"_(\d+)", path)
        blocks.setdefault(f"block{found[1]}" if found else "stem", []).append(path)
    return {name: tuple(paths) for name, paths in blocks.items()}


@hookimpl
def register_backbones(register: RegisterBackbone) -> None:
    """One backbone."""
    register("mobilenet_narrow", build_narrow, NarrowOptions, spec=SPEC)
