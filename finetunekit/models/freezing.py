"""Freezing decisions applied to leaf layers, by path, and checked afterwards.

Flags go on leaf layers only: a composite's flag overwrites its children's when it changes and hides them when it does not (keras#20285,
and the traps in docs/architecture.md). Weights that a composite layer owns itself are frozen one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetunekit.config.plan import PlannedStage
from finetunekit.errors import PluginError, RunError, did_you_mean
from finetunekit.models.classifier import Classifier
from finetunekit.models.layer_names import is_lora
from finetunekit.plugins.components import call_builder, component_label, shown_value
from finetunekit.types import Backbone, FreezeDecision, LayerInfo, LayerRate

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Freezing:
    """What one stage freezes and trains.

    Attributes:
        decision: Layer path → rate multiplier, for every leaf layer of the backbone.
        rates: Variable path → rate multiplier, for every variable that trains, those of the head included.
        claims: Layer path → the rule of the policy that claimed it, where the policy says so.
    """

    decision: Mapping[str, float]
    rates: Mapping[str, float]
    claims: Mapping[str, str]


def freeze_layers(classifier: Classifier, stage: PlannedStage) -> Freezing:
    """Ask a stage's policy and set the flag of every layer by its answer; a stage that is solved freezes the whole backbone.

    Raises:
        PluginError: If the policy fails or returns something that its hook does not allow.
        RunError: If nothing would train.
    """
    layers, asked = describe_layers(classifier.backbone), stage.config
    if stage.freeze is None or asked.kind == "solve":
        returned, decision = {}, {layer.path: 0.0 for layer in layers}
    else:
        returned, label = call_builder(stage.freeze, layers), component_label(stage.freeze)
        decision = check_decision(returned, layers, label, train_batch_norm=asked.train_batch_norm)
    rates = apply_decision(classifier.logits, classifier.backbone.model, decision)
    return Freezing(decision, rates, rules_of(returned))


def leaf_layers(model: keras.Model) -> Iterator[tuple[str, keras.Layer]]:
    """Every layer that has no layers inside it, and every composite that owns weights itself, with its path, in order."""
    yield from _walk(model, "")


def _walk(owner: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    children = owner.layers if hasattr(owner, "layers") else owner._flatten_layers(include_self=False, recursive=False)
    for layer in children:
        path = f"{prefix}{layer.name}"
        has_children = bool(layer._flatten_layers(include_self=False, recursive=False))
        if not has_children or own_variables(layer):
            yield path, layer
        if has_children:
            yield from _walk(layer, f"{path}/")


def own_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Weights of the layer itself, without those of layers inside it."""
    inner = {id(v) for child in layer._flatten_layers(include_self=False) for v in child.weights}
    return [v for v in layer.weights if id(v) not in inner]


def is_batch_norm(layer: keras.Layer) -> bool:
    """Whether the layer keeps moving statistics that `fit` would change."""
    return hasattr(layer, "moving_mean") and hasattr(layer, "moving_variance")


def describe_layers(backbone: Backbone) -> tuple[LayerInfo, ...]:
    """What a freezing policy sees of a backbone."""
    block_of = {path: block for block, paths in backbone.blocks.items() for path in paths}
    return tuple(
        LayerInfo(
            path=path,
            index=index,
            class_name=type(layer).__name__,
            block=block_of.get(path),
            parameters=sum(_size(v) for v in own_variables(layer)),
            is_batch_norm=is_batch_norm(layer),
        )
        for index, (path, layer) in enumerate(leaf_layers(backbone.model))
    )


def _size(variable: keras.Variable) -> int:
    size = 1
    for side in variable.shape:
        size *= int(side)
    return size


def check_decision(
    decision: Any, layers: tuple[LayerInfo, ...], policy: str, *, train_batch_norm: bool
) -> dict[str, float]:
    """Fill a policy's decision in for every layer.

    Args:
        decision: What the policy returned.
        layers: What it was shown.
        policy: Its name and origin, for messages.
        train_batch_norm: Whether BatchNorm layers follow the decision; otherwise they are frozen.

    Returns:
        Layer path → rate multiplier, for every layer.

    Raises:
        PluginError: If it is not a mapping of known paths to finite numbers >= 0.
    """
    if not isinstance(decision, Mapping):
        raise PluginError(
            f"{policy} must return a mapping of layer path to rate multiplier. Received: {type(decision).__name__}"
        )
    known = [layer.path for layer in layers]
    for path, decided in decision.items():
        rate = decided.rate if isinstance(decided, LayerRate) else decided
        if path not in known:
            nearest = did_you_mean(path if isinstance(path, str) else "", known)
            raise PluginError(f"{policy} decides on {shown_value(path)}, which the backbone does not have.{nearest}")
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= sys.float_info.max:
            raise PluginError(
                f"{policy} gives '{path}' a rate multiplier that is not a finite number >= 0. Received: {shown_value(rate)}"
            )
    return {
        layer.path: 0.0 if layer.is_batch_norm and not train_batch_norm else _rate(decision.get(layer.path, 1.0))
        for layer in layers
    }


def _rate(decided: float | LayerRate) -> float:
    return float(decided.rate if isinstance(decided, LayerRate) else decided)


def rules_of(decision: FreezeDecision) -> dict[str, str]:
    """Layer path → the rule that claimed it, for the layers of which the policy says so."""
    return {path: decided.by for path, decided in decision.items() if isinstance(decided, LayerRate)}


def rule_lines(claims: Mapping[str, str], rates: Mapping[str, float]) -> list[str]:
    """One line a rule: what it claims, and at which rate.

    Args:
        claims: From `rules_of`.
        rates: Layer path → rate multiplier, of the layers to be told of.
    """
    groups: dict[tuple[str, float], list[str]] = {}
    for path, rate in rates.items():
        if path in claims:
            groups.setdefault((claims[path], rate), []).append(path)
    return [f"{by} ({show_rate(rate)}): {_show_paths(paths)}" for (by, rate), paths in groups.items()]


def show_rate(rate: float) -> str:
    """`frozen`, `trained`, or a multiplier of the stage's rate such as `x0.1`."""
    return "frozen" if rate == 0 else "trained" if rate == 1 else f"x{rate:.4g}"


def _show_paths(paths: list[str]) -> str:
    if len(paths) <= 2:
        return ", ".join(paths)
    return f"{len(paths)} layers, {paths[0]} to {paths[-1]}"


def apply_decision(model: keras.Model, backbone: keras.Model, decision: Mapping[str, float]) -> dict[str, float]:
    """Set every flag of the backbone, train everything else of the model, and check what came of it.

    Args:
        model: The whole model, backbone and head.
        backbone: The part that the decision is about.
        decision: From `check_decision`: every leaf layer of the backbone.

    Returns:
        Variable path → rate multiplier, for every variable that will train.

    Raises:
        RunError: If nothing would train, or Keras disagrees with the decision.
    """
    for layer in (model, *model._flatten_layers(include_self=False)):
        layer.trainable = False  # setting what is set already is a no-op that leaves the layer's variables as they are
        layer.trainable = True
    rates: dict[str, float] = {}
    frozen: set[int] = set()
    for path, layer in leaf_layers(backbone):
        rate = decision[path]
        is_leaf = not layer._flatten_layers(include_self=False, recursive=False)
        if is_leaf:
            layer.trainable = rate > 0
        has_lora = any(map(is_lora, own_variables(layer)))
        for variable in own_variables(layer):
            own_rate = (
                0.0 if has_lora and not is_lora(variable) else rate
            )  # what LoRA was added to stays as it was pretrained
            if variable.trainable and (not is_leaf or own_rate == 0):
                variable.trainable = own_rate > 0
            if own_rate == 0:
                frozen.add(id(variable))
            rates[variable.path] = own_rate
    return _check_applied(model, frozen, rates)


def _check_applied(model: keras.Model, frozen: set[int], rates: Mapping[str, float]) -> dict[str, float]:
    training = list(model.trainable_weights)
    if not training:
        raise RunError("nothing would train: every layer is frozen. Freeze fewer layers.")
    wrong = [v.path for v in training if id(v) in frozen]
    if wrong:
        raise RunError(f"{wrong[0]} and {len(wrong) - 1} more would train although the policy froze them.")
    return {v.path: rates.get(v.path, 1.0) for v in training}
