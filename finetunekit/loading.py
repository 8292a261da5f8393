"""What a plan says is loaded: pretrained weights into its backbone, and the photos of a split as it feeds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit.plan import Plan
from finetunekit.progress import Progress
from finetunekit.stage_context import Photos
from finetunekit.types import Backbone

if TYPE_CHECKING:
    from finetunekit.data.index import PhotoIndex
    from finetunekit.weights import WeightsProvenance


def load_backbone_weights(plan: Plan, backbone: Backbone, say: Callable[[str], None]) -> WeightsProvenance | None:
    """Load the pretrained weights that the plan asks for; nothing where it asks for random ones.

    Returns:
        Where they came from; None for random ones.

    Raises:
        WeightsError: If they cannot be had, or do not fit.
    """
    from finetunekit.weights import StoredArrays, fit_arrays, resolve_weights

    weights = plan.config.weights
    if weights.mode == "random":
        return None
    explicit = Path(weights.path).expanduser() if weights.path else None
    found = resolve_weights(plan.backbone.name, plan.spec, explicit=explicit, say=say)
    fit_arrays(backbone.model, StoredArrays(found.path), origin=str(found.provenance.location), top=plan.spec.top)
    return found.provenance


def decode_split(plan: Plan, index: PhotoIndex, split: str, progress: Progress) -> Photos:
    """Decode the photos of one split as the plan feeds them.

    Raises:
        DataError: If a photo cannot be read.
    """
    from finetunekit.data.decode import load_photos

    photos, pixels = index.split(split), plan.config.pixels
    loaded = load_photos(
        [photo.path for photo in photos],
        size_px=pixels.size_px,
        resize=pixels.resize,
        fit=pixels.fit,
        source_px=pixels.source_px,
        max_pixels=plan.config.data.max_photo_pixels,
        progress=progress.counter(f"decoding {split} photos"),
        say=progress.say,
    )
    groups = tuple(photo.group or photo.sha256 for photo in photos)
    return Photos(loaded, index.labels(split), tuple(photo.sha256 for photo in photos), groups)
