"""Grad-CAM: where in a photo a network found what it named, for any backbone that ends in a feature map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.forward import input_batches
from finetunekit.models.layer_names import member_of
from finetunekit.types import PixelContract

if TYPE_CHECKING:
    import keras

#: Decimals kept of a map; a thumbnail shows no more.
DECIMALS = 3
#: Photos at once: Keras holds what all layers make of them until the last is done: over 100 MB for one of 260 px and two small networks.
_BATCH = 1
MISSING = (
    "Grad-CAM needs a feature map of more than one place; this backbone gives none after its last layer with weights."
)


@dataclass(frozen=True, slots=True)
class MapLayer:
    """Where a map is read.

    Attributes:
        name: Layer of the backbone; of an ensemble, those of its members, with commas.
        tensors: Its output, `(batch, rows, columns, channels)`; of an ensemble, those of its members, of one size.
    """

    name: str
    tensors: tuple[keras.KerasTensor, ...]


def find_map_layer(backbone: keras.Model) -> MapLayer | None:
    """The last feature map that is as large as that of the last layer with weights, so that a last pooling does not coarsen it.

    Args:
        backbone: Model from photos to features, or to logits.

    Returns:
        None where no layer gives a map of more than one place, as in a network of tokens. Of an ensemble, the maps of the members whose
        map is of the first one's size.

    Source: Selvaraju et al. 2017, "Grad-CAM", arXiv:1610.02391, section 3 (the last convolutional layer).
    """
    members: dict[str, list[Any]] = {}
    for layer in backbone.layers:
        members.setdefault(member_of(layer.name), []).append(layer)
    found = [one for name in sorted(members) if (one := _last_map(members[name])) is not None]
    if not found:
        return None
    size = tuple(found[0][1].shape[1:3])
    same = [(layer, tensor) for layer, tensor in found if tuple(tensor.shape[1:3]) == size]
    return MapLayer(", ".join(layer.name for layer, _ in same), tuple(tensor for _, tensor in same))


def _last_map(layers: Sequence[Any]) -> tuple[Any, keras.KerasTensor] | None:
    maps = [(layer, _map_of(layer)) for layer in layers]
    found = [(layer, tensor) for layer, tensor in maps if tensor is not None]
    weighted = [tensor for layer, tensor in found if layer.weights and not _is_normalisation(layer)]
    if not weighted:
        return None
    size = tuple(weighted[-1].shape[1:3])
    return [(layer, tensor) for layer, tensor in found if tuple(tensor.shape[1:3]) == size][-1]


def gradcam_maps(
    logits: keras.Model, layer: MapLayer, photos: NDArray[np.uint8], classes: Sequence[int], contract: PixelContract
) -> NDArray[np.float32]:
    """Maps of what spoke for a class.

    A channel counts by the mean gradient of the class's logit in it; what speaks against the class is left out. Maps of several members of
    an ensemble are added, since each gradient holds the weight of its member in the answer.

    Args:
        logits: The network, photos to logits.
        layer: Of its backbone.
        photos: `(photos, size, size, 3)` uint8 RGB.
        classes: Class index asked about for each photo.
        contract: What the network is fed by.

    Returns:
        `(photos, rows, columns)` float32 in [0, 1], the largest value of each map 1; all 0 where nothing spoke for the class.

    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    import keras
    import tensorflow as tf

    before = keras.Model(logits.inputs, list(layer.tensors))
    # members and branches without a map begin at the photo
    after = keras.Model([*layer.tensors, *logits.inputs], logits.outputs[0])
    maps, start = [], 0
    for batch in input_batches(photos, contract, _BATCH):
        asked = tf.constant(list(classes[start : start + len(batch)]))
        pixels = tf.constant(batch)
        # outside the tape, which would hold all that comes before the map
        features = tf.nest.flatten(before(pixels, training=False))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(features)
            scores = after([*features, pixels], training=False)
            # The gradient of a sum of logits: each photo's logit depends on that photo only.
            total = tf.reduce_sum(tf.gather(scores, asked, axis=1, batch_dims=1))
        maps.append(_scaled(sum(map(_heat, features, tape.gradient(total, features)))))
        start += len(batch)
    return np.concatenate(maps)


def _heat(features: Any, gradients: Any) -> NDArray[np.float32]:
    values, slopes = (np.asarray(tensor, np.float32) for tensor in (features, gradients))
    heat: NDArray[np.float32] = np.maximum((values * slopes.mean(axis=(1, 2), keepdims=True)).sum(axis=-1), 0.0)
    return heat


def _scaled(heat: Any) -> NDArray[np.float32]:
    peak = heat.max(axis=(1, 2), keepdims=True)
    scaled: NDArray[np.float32] = np.divide(heat, peak, out=np.zeros_like(heat), where=peak > 0)
    return scaled


def explained(layer: MapLayer, photos: Sequence[str], maps: NDArray[np.float32]) -> Mapping[str, Any]:
    """What `gradcam.json` holds: maps by photo content, and how to read them."""
    words = how_to_read(layer.name, maps.shape[1:])
    lists = {sha: np.round(one.astype(np.float64), DECIMALS).tolist() for sha, one in zip(photos, maps, strict=True)}
    return {"layer": layer.name, "words": words, "maps": lists}


def how_to_read(layer: str, size: tuple[int, ...]) -> str:
    """What stands beside maps of some rows and columns that were read at a layer."""
    return (
        f"Next to each photo is its Grad-CAM map: which parts supported the predicted class, from dark (none) to bright (most). It is "
        f"read at '{layer}', a grid of {size[0]} × {size[1]}, so it shows no finer detail; it shows where, not why."
    )


def _map_of(layer: Any) -> keras.KerasTensor | None:
    """A layer's output where it is one map of more than one place."""
    tensor = getattr(layer, "output", None)
    shape = tuple(getattr(tensor, "shape", ()))
    is_map = len(shape) == 4 and None not in shape[1:] and math.prod(shape[1:3]) > 1
    return tensor if is_map else None


def _is_normalisation(layer: Any) -> bool:
    return "Normalization" in type(layer).__name__
