"""Backbone `kerashub`: the image features of any preset of KerasHub, DINOv2 and SigLIP among them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from finetunekit import Backbone, BackboneSpec, Options, PixelContract, hookimpl
from finetunekit.hookspecs import RegisterBackbone

#: Source: keras_hub/src/models/dinov2/dinov2_presets.py
DINOV2_SMALL_PARAMETERS = 22_582_656


class KerasHubOptions(Options):
    """Options of the backbone `kerashub`."""

    preset: str = Field(
        default="dinov2_small",
        min_length=1,
        description="A preset's name, a handle (kaggle://, hf://), or a folder that KerasHub's save_to_preset wrote.",
    )
    features: Literal["spatial", "pooled"] = Field(
        default="spatial",
        description="spatial: the last feature map or tokens; pooled: the vector that the preset computes from them.",
    )
    lora_rank: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Rank of the matrices that LoRA adds to the queries and values of attention; 0: none. Only they train there.",
    )


@hookimpl
def register_backbones(register: RegisterBackbone) -> None:
    """One backbone; which network it is, is its option `preset`."""
    register("kerashub", build_kerashub, KerasHubOptions, spec=SPEC)


def build_kerashub(options: KerasHubOptions, image_size_px: int) -> Backbone:
    """Build the image part of a preset without pretrained weights. Needs the preset's configuration, not its weights.

    Args:
        options: Names the preset and which of its features are wanted.
        image_size_px: Side of the square input. Networks with one learned embedding for each place take their own size only.

    Returns:
        Model `(batch, image_size_px, image_size_px, 3)` RGB in [0, 255] → map `(batch, height, width, channels)`, tokens
        `(batch, tokens, channels)` or vector `(batch, channels)`. The preset's own rescaling is its first layer.

    Raises:
        PluginError: If the preset cannot be had, is not an image network, or does not take this size.
    """
    from finetunekit_kerashub.network import build_preset

    return build_preset(
        options.preset, options.features, image_size_px, load_weights=False, lora_rank=options.lora_rank
    )


SPEC = BackboneSpec(
    title="a preset of KerasHub (default: DINOv2, small)",
    pixels=PixelContract(),  # what a preset does to pixels is known with its configuration only: it is a layer of the network
    native_size_px=224,
    min_size_px=14,
    parameters=DINOV2_SMALL_PARAMETERS,
    licence="the preset's own: see its model card",
    attribution="the preset's own: see its model card",
    pretrained_on="the preset's own: see its model card",
    published="see the preset's model card",
    reference="keras.io/keras_hub/presets; for the default, Oquab et al. 2023, arXiv:2304.07193",
)
