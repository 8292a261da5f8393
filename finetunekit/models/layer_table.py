"""The layers of a network as a table: what each is, what it costs, and whether it trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetunekit.models.classifier import Classifier
from finetunekit.models.flops import Use, count_uses
from finetunekit.models.freezing import describe_layers
from finetunekit.types import Backbone, LayerInfo

HEAD = "head"


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer.

    Attributes:
        path: Names from the outermost model inwards, joined by `/`.
        class_name: Keras class.
        block: The backbone's block; `head` for the head; None where the backbone names none.
        output_shape: `(batch, ...)`, the batch being None; None where it is not on the graph.
        parameters: Number of scalar weights.
        rate: Multiplier of the stage's learning rate, 0 for a frozen layer; None for a layer without parameters.
        multiply_adds: Of one photo forward, all its uses together; None where they cannot be counted, or are counted for the layer
            that it is part of.
        is_before_cut: Whether it is part of the frozen prefix.
        claimed_by: The rule of the freezing policy that gave the rate, where the policy says so.
    """

    path: str
    class_name: str
    block: str | None
    output_shape: tuple[int | None, ...] | None
    parameters: int
    rate: float | None
    multiply_adds: int | None
    is_before_cut: bool
    claimed_by: str | None = None


def layer_table(
    classifier: Classifier, decision: Mapping[str, float], claims: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Every layer of backbone and head, in order, as plain values for `plan.json`.

    Args:
        classifier: The network.
        decision: Layer path → rate multiplier of one stage, from `check_decision`.
        claims: Layer path → rule, from `rules_of`.

    Returns:
        Rows with `path`, `class_name`, `block`, `output_shape`, `parameters`, `rate` and `claimed_by`, as in `LayerRow`.
    """
    rows = [dataclasses.asdict(row) for row in layer_rows(classifier, decision, claims=claims)]
    return [{key: row[key] for key in row if key not in {"multiply_adds", "is_before_cut"}} for row in rows]


def layer_rows(
    classifier: Classifier,
    decision: Mapping[str, float],
    layers_before_cut: Collection[str] = (),
    claims: Mapping[str, str] | None = None,
) -> tuple[LayerRow, ...]:
    """Every layer of backbone and head, in the order of the forward pass.

    Args:
        classifier: The network.
        decision: Layer path → rate multiplier, for every layer of the backbone.
        layers_before_cut: `Cut.prefix_layers`.
        claims: Layer path → rule, from `rules_of`.
    """
    whole = Backbone(classifier.logits, "vector", classifier.backbone.blocks)
    uses: dict[str, list[Use]] = {}
    for use in count_uses(classifier.logits):
        uses.setdefault(use.path, []).append(use)
    rows = []
    for layer in _with_composites(describe_layers(whole), uses):
        found = uses.get(layer.path, [])
        counts = [use.multiply_adds for use in found]
        rows.append(
            LayerRow(
                path=layer.path,
                class_name=layer.class_name,
                block=layer.block if layer.path.split("/")[0] in _names(classifier) else HEAD,
                output_shape=found[0].output_shape if found else None,
                parameters=layer.parameters,
                rate=decision.get(layer.path, 1.0) if layer.parameters else None,
                multiply_adds=None if None in counts or not counts else sum(count or 0 for count in counts),
                is_before_cut=layer.path.split("/")[0] in layers_before_cut,
                claimed_by=(claims or {}).get(layer.path),
            )
        )
    return tuple(rows)


def _names(classifier: Classifier) -> set[str]:
    return {layer.name for layer in classifier.backbone.model._flatten_layers(include_self=False, recursive=False)}


def _with_composites(layers: Sequence[LayerInfo], uses: dict[str, list[Use]]) -> list[LayerInfo]:
    """Layers, and before the parts of one whose arithmetic is counted as a whole (attention) a row for the whole."""
    rows: list[LayerInfo] = []
    known = {layer.path for layer in layers}
    for layer in layers:
        parts = layer.path.split("/")
        for depth in range(1, len(parts)):
            path = "/".join(parts[:depth])
            if path in uses and path not in known:
                known.add(path)
                rows.append(LayerInfo(path, layer.index, uses[path][0].class_name, layer.block, 0, False))
        rows.append(layer)
    return rows
