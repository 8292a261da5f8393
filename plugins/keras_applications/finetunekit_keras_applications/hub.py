"""Image networks of KerasHub that are worth a download: built by the distribution finetunekit-kerashub, fetched by KerasHub itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Backbone, BackboneSpec, Options, PixelContract, PluginError, WeightSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DISTRIBUTION = "finetunekit-kerashub"


class HubOptions(Options):
    """Options of a network of KerasHub; its features are the tokens of its last layer."""

    lora_rank: int = Field(
        0,
        ge=0,
        le=256,
        description="Rank of the matrices that LoRA adds to the queries and values of attention; 0: none. Only they train there.",
    )


@dataclass(frozen=True, slots=True)
class HubNetwork:
    """One preset of KerasHub.

    Attributes:
        name: In YAML.
        preset: What KerasHub calls it, or a folder that its `save_to_preset` wrote.
        spec: What is known of it without building it, its source of arrays left out.
        size_mb: Of what KerasHub downloads, which may hold more than the part for images.
        page: Where it lies.
    """

    name: str
    preset: str
    spec: BackboneSpec
    size_mb: float
    page: str

    def with_source(self) -> BackboneSpec:
        """Its spec, with KerasHub as the source of its arrays."""
        source = WeightSource(
            kind="library",
            location=self.page,
            checksum=f"library:{self.preset}",
            convert=partial(_fetch, self),
            size_mb=self.size_mb,
            note=f"KerasHub's preset {self.preset}",
        )
        return replace(self.spec, weight_sources=(source,), requires=DISTRIBUTION)


def build_hub(network: HubNetwork, options: HubOptions, image_size_px: int) -> Backbone:
    """Build the image part of a preset without pretrained weights. Needs the preset's configuration, not its weights.

    Args:
        network: Which one.
        options: Whether LoRA is added.
        image_size_px: Side of the square input; the native size only, for which the position embeddings are fetched.

    Returns:
        Model `(batch, image_size_px, image_size_px, 3)` RGB in [0, 255] → tokens `(batch, tokens, channels)`. The preset's own rescaling is
        its first layer.

    Raises:
        PluginError: If finetunekit-kerashub is not installed, the preset's configuration cannot be had, or the size is another one.
    """
    native_px = network.spec.native_size_px
    if image_size_px != native_px:
        raise PluginError(
            f"{network.name}: takes {native_px} px only; pixels.size_px is {image_size_px}. For other sizes: backbone: {{name: kerashub, "
            f"preset: {network.preset}}}."
        )
    return _build(network, image_size_px, load_weights=False, lora_rank=options.lora_rank)


def _build(network: HubNetwork, size_px: int, *, load_weights: bool, lora_rank: int = 0) -> Backbone:
    try:
        from finetunekit_kerashub.network import build_preset
    except ImportError as exc:
        raise PluginError(f"{network.name}: needs KerasHub ({exc}). Install it: pip install {DISTRIBUTION}") from exc
    built: Backbone = build_preset(network.preset, "spatial", size_px, load_weights=load_weights, lora_rank=lora_rank)
    return built


def _fetch(network: HubNetwork, folder: Path) -> dict[str, NDArray[np.float32]]:
    """Have KerasHub load the preset with its weights, from its own cache or the hub."""
    import numpy as np

    from finetunekit import named_variables  # loads numpy, which no listing needs

    built = _build(network, network.spec.native_size_px, load_weights=True)
    variables = named_variables(built.model, network.name)
    return {name: np.array(variable, np.float32) for name, variable in variables.items()}


def _multiply_adds(tokens: int, patches: int, patch_px: int, channels: int, layers: int) -> int:
    """Of a vision transformer for one photo: four projections and two layers of four times the width in each block, and the first."""
    return layers * tokens * 12 * channels**2 + patches * 3 * patch_px**2 * channels


_PIXELS = PixelContract()  # what a preset does to pixels is a layer of the network
NETWORKS = (
    HubNetwork(
        name="dinov2_small",
        preset="dinov2_small",
        spec=BackboneSpec(
            title="DINOv2, ViT-S/14",
            pixels=_PIXELS,
            native_size_px=224,
            min_size_px=224,
            parameters=22_155_264,
            licence="Apache-2.0",
            attribution="DINOv2 by Oquab et al., Meta AI; converted by KerasHub",
            pretrained_on="LVD-142M: 142 million curated pictures, without labels",
            published="81.1 % top-1 on ImageNet's validation photos by a linear probe (Oquab et al. 2023, table 4)",
            reference="Oquab et al. 2023, arXiv:2304.07193",
            multiply_adds=_multiply_adds(tokens=257, patches=256, patch_px=14, channels=384, layers=12),
            crop_pct=0.875,
            worth="learnt without labels, for photos unlike ImageNet's",
        ),
        size_mb=90,
        page="https://www.kaggle.com/models/keras/dinov2/keras/dinov2_small",
    ),
    HubNetwork(
        name="siglip2_base",
        preset="siglip2_base_patch16_224",
        spec=BackboneSpec(
            title="SigLIP 2, ViT-B/16",
            pixels=_PIXELS,
            native_size_px=224,
            min_size_px=224,
            parameters=85_797_316,
            licence="Apache-2.0",
            attribution="SigLIP 2 by Tschannen et al., Google; converted by KerasHub",
            pretrained_on="WebLI: pictures with texts from the web",
            published="78.2 % top-1 on ImageNet's validation photos without training on them (Tschannen et al. 2025, table 1)",
            reference="Tschannen et al. 2025, arXiv:2502.14786",
            multiply_adds=_multiply_adds(tokens=196, patches=196, patch_px=16, channels=768, layers=12),
            worth="learnt from pictures with texts, for things that have names",
        ),
        size_mb=1500,
        page="https://www.kaggle.com/models/keras/siglip/keras/siglip2_base_patch16_224",
    ),
)
