"""Several networks as one: the mean of their probabilities, computed from one photo by one Keras model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.joined_backbone import renamed, standardised
from finetunekit.config.plan import PlannedMember, PlannedNetwork
from finetunekit.errors import PluginError, RunError
from finetunekit.models.classifier import PROBABILITIES, Classifier, build_classifier, model_name, precision_scope
from finetunekit.models.layer_names import count_names_anew, member_prefix, weights_by_name
from finetunekit.system.environment import seeded
from finetunekit.system.files import work_in
from finetunekit.system.formatting import one_line
from finetunekit.types import Backbone

if TYPE_CHECKING:
    import keras


def build_ensemble(network: PlannedNetwork, num_classes: int, precision: str) -> Classifier:
    """Build every member on one input; the weights are Keras' initial ones.

    Args:
        network: With its members.
        num_classes: At least 2.
        precision: `float32` or `bfloat16`, of all members.

    Returns:
        Logits whose softmax is the mean of the members' probabilities, and whose log-sum-exp is the mean of theirs, so that the energy of a
        photo keeps its meaning. Layers are called `member<n>_<layer>`.

    Raises:
        PluginError: If a builder fails, or layers of a member cannot be copied.

    Source: Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation using deep ensembles", arXiv:1612.01474.
    """
    import keras

    with precision_scope(precision):
        photos = keras.Input((network.size_px, network.size_px, 3), name="photos")
        logits = [
            _member_logits(photos, member, member_prefix(number), num_classes, precision, network.size_px)
            for number, member in enumerate(network.members, 1)
        ]
        together = keras.layers.Activation("linear", dtype="float32", name="ensemble")(_averaged(logits))
        # made anew, so that each layer is in one graph only
        whole = keras.models.clone_model(keras.Model(photos, together, name="logits"))
        probabilities = keras.layers.Softmax(dtype="float32", name=PROBABILITIES)(whole.output)
    saved = keras.Model(whole.inputs[0], probabilities, name=model_name(network.name))
    return Classifier(backbone=Backbone(whole, "vector", {}), logits=whole, probabilities=saved)


def _member_logits(
    photos: keras.KerasTensor, member: PlannedMember, prefix: str, num_classes: int, precision: str, size_px: int
) -> keras.KerasTensor:
    import keras

    with work_in(member.folder), seeded(member.seed):
        built = build_classifier(member.network, num_classes, precision).logits
    count_names_anew(built)
    try:
        copy = keras.models.clone_model(built, clone_function=partial(renamed, prefix))
    except Exception as exc:
        raise PluginError(
            f"{member.network.name}: its layers cannot be copied into one network ({type(exc).__name__}: {one_line(exc)})."
        ) from exc
    # `call`, not a call: layer by layer, so that Grad-CAM and the last layer's features are found
    logits: keras.KerasTensor = copy.call(_cut(photos, member, prefix, size_px))
    return logits


def _cut(photos: keras.KerasTensor, member: PlannedMember, prefix: str, size_px: int) -> keras.KerasTensor:
    """The common square as a member sees it: its centre, at the member's own size and by its own contract."""
    import keras

    side, own_px = member.crop_px, member.network.size_px
    if side != size_px:
        start = (size_px - side) // 2
        photos = photos[:, start : start + side, start : start + side]
    if side != own_px:
        # the operation, not the layer `Resizing`; see `finetunekit.config.joined_backbone`
        photos = keras.ops.image.resize(photos, (own_px, own_px), interpolation="bilinear")
    return photos if member.contract is None else standardised(photos, member.contract, prefix)


def _averaged(logits: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    """Logits `(batch, classes)` of each → logits of the mean of their softmaxes; by operations that every exporter can write."""
    import keras

    sums = [_log_sum_exp(one, axis=-1) for one in logits]  # (batch, 1)
    shares = keras.ops.stack([one - total for one, total in zip(logits, sums, strict=True)], axis=1)
    mean_energy = keras.ops.mean(keras.ops.concatenate(sums, axis=-1), axis=-1, keepdims=True)
    mean_share = keras.ops.squeeze(_log_sum_exp(shares, axis=1), axis=1)
    return mean_share + (mean_energy - float(np.log(len(logits))))


def _log_sum_exp(values: keras.KerasTensor, axis: int) -> keras.KerasTensor:
    """By hand: the operation of that name asks which values are finite, which small runtimes cannot."""
    import keras

    peak = keras.ops.max(values, axis=axis, keepdims=True)
    return keras.ops.log(keras.ops.sum(keras.ops.exp(values - peak), axis=axis, keepdims=True)) + peak


def fill_members(logits: keras.Model, members: Sequence[keras.Model]) -> None:
    """Put the weights of networks into the ensemble that was built of the same plans.

    Args:
        logits: Of `build_ensemble`.
        members: The networks, in its order.

    Raises:
        RunError: If a weight finds no place.
    """
    places = weights_by_name(logits)
    for number, member in enumerate(members, 1):
        for name, weight in weights_by_name(member).items():
            place = places.get(f"{member_prefix(number)}{name}")
            if place is None or place.shape != weight.shape:
                raise RunError(f"member {number}: its weight '{name}' has no place in the network of all.")
            place.assign(weight)


def mean_weights(members: Sequence[keras.Model]) -> list[NDArray[Any]]:
    """The mean of every weight of networks of one plan, in the order of `weights_by_name`.

    Raises:
        RunError: If their weights differ in number or shape.

    Source: Wortsman et al. 2022, "Model soups", arXiv:2203.05482 (uniform soup).
    """
    columns: list[Mapping[str, Any]] = [weights_by_name(member) for member in members]
    shapes = [[tuple(weight.shape) for weight in column.values()] for column in columns]
    if any(shape != shapes[0] for shape in shapes):
        raise RunError("the networks have other weights, so there is no mean of them.")
    return [_mean([np.asarray(weight) for weight in row]) for row in zip(*(c.values() for c in columns), strict=True)]


def _mean(weights: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """In float64; whole numbers, such as counters of a layer, are the first network's."""
    if not np.issubdtype(weights[0].dtype, np.floating):
        return weights[0]
    found: NDArray[Any] = np.mean([weight.astype(np.float64) for weight in weights], axis=0).astype(weights[0].dtype)
    return found
