"""Planned network → backbone + head → Keras model, with what plugins return checked and blamed by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.plan import Chosen, PlannedNetwork
from finetunekit.errors import PluginError
from finetunekit.plugins.components import call_builder, component_label, shown_value
from finetunekit.system.formatting import one_line
from finetunekit.types import Backbone, Features

if TYPE_CHECKING:
    import keras

PROBABILITIES = "probabilities"

_RANKS = {"map": 4, "tokens": 3, "vector": 2}


@dataclass(frozen=True, slots=True)
class Classifier:
    """One network seen three ways; all share their layers.

    Attributes:
        backbone: `(batch, size, size, 3)` → features.
        logits: `(batch, size, size, 3)` → `(batch, classes)` float32; what is trained.
        probabilities: The same with softmax; what is saved.
    """

    backbone: Backbone
    logits: keras.Model
    probabilities: keras.Model


@contextmanager
def precision_scope(precision: str) -> Iterator[None]:
    """Build layers under Keras' dtype policy for `float32` or `bfloat16`, and put the former policy back."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_backbone(network: PlannedNetwork, precision: str) -> Backbone:
    """Build the backbone alone; the weights are Keras' initial ones.

    Args:
        network: Names the backbone and the size of its input.
        precision: `float32` or `bfloat16`.

    Raises:
        PluginError: If its builder fails or returns something that the hook does not allow.
    """
    with precision_scope(precision):
        backbone = call_builder(network.backbone, network.size_px)
    _check_backbone(network.backbone, backbone, network.size_px)
    assert isinstance(backbone, Backbone)  # checked
    return backbone


def build_classifier(network: PlannedNetwork, num_classes: int, precision: str) -> Classifier:
    """Build backbone and head; the weights are Keras' initial ones.

    Args:
        network: Names the components.
        num_classes: At least 2.
        precision: `float32` or `bfloat16`.

    Raises:
        PluginError: If a builder fails or returns something that its hook does not allow.
    """
    import keras

    if network.members:
        from finetunekit.models.ensemble_network import build_ensemble

        return build_ensemble(network, num_classes, precision)
    with precision_scope(precision):
        backbone = build_backbone(network, precision)
        features = Features(backbone.model.output, backbone.kind)
        logits = call_builder(network.head, features, num_classes)
        _check_logits(network.head, logits, num_classes)
        probabilities = keras.layers.Softmax(dtype="float32", name=PROBABILITIES)(logits)
    inputs = backbone.model.inputs[0]
    try:
        whole = keras.Model(inputs, logits, name="logits")
        saved = keras.Model(inputs, probabilities, name=model_name(network.name))
    except ValueError as exc:  # such as a layer name that both use
        reason = one_line(exc)
        raise PluginError(
            f"{component_label(network.head)} cannot be joined to {component_label(network.backbone)}: {reason}"
        ) from exc
    return Classifier(backbone=backbone, logits=whole, probabilities=saved)


def save_h5(model: keras.Model, path: Path) -> None:
    """Save a model as HDF5, without Keras' advice to use its newer format: that one is saved as well."""
    import absl.logging

    level = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    try:
        model.save(path)
    finally:
        absl.logging.set_verbosity(level)


def model_name(name: str) -> str:
    """A configuration's name as Keras takes it for a model."""
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in name)


def _check_backbone(chosen: Chosen, backbone: Any, size_px: int) -> None:
    import keras

    if not isinstance(backbone, Backbone) or not isinstance(backbone.model, keras.Model):
        raise PluginError(
            f"{component_label(chosen)} must return finetunekit.Backbone(model=keras.Model). Received: {shown_value(backbone)}"
        )
    expected = (None, size_px, size_px, 3)
    shapes = [tuple(tensor.shape) for tensor in backbone.model.inputs]
    if shapes != [expected]:
        raise PluginError(f"{component_label(chosen)}: there must be one input, {expected}. Received: {shapes}")
    rank = len(backbone.model.output_shape) if isinstance(backbone.model.output_shape, tuple) else None
    if backbone.kind not in _RANKS or rank != _RANKS[backbone.kind]:
        raise PluginError(
            f"{component_label(chosen)}: kind '{backbone.kind}' does not fit its output. Received: {backbone.model.output_shape}"
        )


def _check_logits(chosen: Chosen, logits: Any, num_classes: int) -> None:
    import keras

    if not isinstance(logits, keras.KerasTensor):
        raise PluginError(
            f"{component_label(chosen)} must return a Keras tensor of logits. Received: {type(logits).__name__}"
        )
    if tuple(logits.shape) != (None, num_classes) or logits.dtype != "float32":
        raise PluginError(
            f"{component_label(chosen)}: logits must be (batch, {num_classes}) float32 (give the last layer dtype='float32'). "
            f"Received: {tuple(logits.shape)} {logits.dtype}"
        )
    operation = logits._keras_history.operation
    if (
        getattr(getattr(operation, "activation", None), "__name__", "") == "softmax"
        or type(operation).__name__ == "Softmax"
    ):
        raise PluginError(
            f"{component_label(chosen)}: returns probabilities; return logits and leave the softmax to the engine."
        )
