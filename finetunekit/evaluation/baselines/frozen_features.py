"""Pooled features of the pretrained, untrained backbone, as cheaply as the run's own cache allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.pixel_contract import pixel_parts
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.evaluation.baselines.inputs import BaselineInputs
from finetunekit.evaluation.probe_features import ProbeFeatures, probe_backbone
from finetunekit.models.classifier import build_backbone
from finetunekit.models.feature_cache import EXTRACTION_BATCH, plain_key, prefix_signature
from finetunekit.models.forward import make_forward
from finetunekit.models.load_weights import load_backbone_weights
from finetunekit.types import TEST, TRAIN, PixelContract

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class _Start:
    """The pretrained backbone up to where the run's frozen prefix ended; a `finetunekit.models.feature_cache.Prefix`."""

    prefix: keras.Model
    boundary: tuple[str, ...]


def frozen_features(inputs: BaselineInputs, contract: PixelContract, precision: str) -> dict[str, NDArray[np.float32]]:
    """Features of training and test photos under one pixel contract.

    Where the run's cache has the photos at the cut of its last stage, with these very weights, only what lies behind the cut is computed.

    Args:
        inputs: The run.
        contract: What the backbone is fed by.
        precision: `float32` or `bfloat16`.

    Returns:
        `train` and `test` → `(photos, channels)` float32.

    Raises:
        WeightsError: If the pretrained weights cannot be had any more.
    """
    plan, backbone = inputs.plan, inputs.backbone
    if backbone is None or precision != inputs.precision:
        backbone = build_backbone(plan.network, precision)
        load_backbone_weights(plan, backbone, lambda _: None)
    probe = probe_backbone(
        plan, inputs.index, backbone, precision, inputs.progress, contract=contract, photos=inputs.photos
    )
    start = _start(backbone.model, inputs.boundary)

    def compute(split: str) -> NDArray[np.float32]:
        photos = inputs.photos.split(split)
        kept = _from_cut(probe, start, photos) if start else None
        if kept is not None:
            return kept
        if split == TRAIN and inputs.checked:  # the pixel check had half of them through the network, as a rule
            return probe.features_beyond(inputs.checked, photos, split)
        return probe.features_of(photos, split)

    return {split: compute(split) for split in (TRAIN, TEST)}


def _start(backbone: keras.Model, names: tuple[str, ...]) -> _Start | None:
    import keras

    layers = {layer.name: layer for layer in backbone.layers if len(layer._inbound_nodes) == 1}
    if not names or not set(names) <= layers.keys() or len(names) > 1:
        return None
    return _Start(keras.Model(backbone.inputs[0], layers[names[0]].output, name="prefix"), names)


def _from_cut(probe: ProbeFeatures, start: _Start, photos: DecodedPhotos) -> NDArray[np.float32] | None:
    import keras

    parts = pixel_parts(probe.plan.config.pixels, probe.contract)
    kept = probe.cache.get(plain_key(prefix_signature(start, parts, probe.precision), photos.sha256))
    if kept is None:
        return None
    at_cut, pooled = start.prefix.outputs[0], probe.pooled.prefix.outputs[0]
    if at_cut is pooled:  # a backbone that gives vectors is cut where it ends
        return np.asarray(kept[0], np.float32)
    rest = keras.Model(at_cut, pooled, name="rest")
    return np.asarray(make_forward(rest, EXTRACTION_BATCH)(*kept), np.float32)
