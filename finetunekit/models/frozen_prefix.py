"""Where the frozen prefix of a network ends, found on its graph.

The prefix is the set of operations that are frozen and deterministic and read only from such operations. What crosses from it to the rest,
one tensor or several, is all that training needs to know of it. Works for any graph of layers: branches and skip connections are followed
node by node; a nested model is one operation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Cut:
    """A network in two parts that share its layers.

    Attributes:
        prefix: Input → the tensors that cross the cut; nothing in it changes during the stage.
        suffix: Those tensors → logits.
        boundary: Names of the operations whose outputs cross.
        prefix_layers: Names of the operations before the cut.
    """

    prefix: keras.Model
    suffix: keras.Model
    boundary: tuple[str, ...]
    prefix_layers: tuple[str, ...]


def find_cut(model: keras.Model) -> Cut | None:
    """Split a network at the deepest cut above which everything is frozen and deterministic.

    Args:
        model: `(batch, size, size, 3)` → logits, flags set as the stage trains it.

    Returns:
        The cut; None where nothing but the input would lie before it, or nothing at all after it.
    """
    import keras

    graph = _Graph(model)
    crossing = graph.crossing()
    if not crossing or all(type(_history(t).operation).__name__ == "InputLayer" for t in crossing):
        return None
    boundary = tuple(dict.fromkeys(_history(t).operation.name for t in crossing))
    single = len(crossing) == 1
    return Cut(
        prefix=keras.Model(model.inputs[0], crossing[0] if single else crossing, name="prefix"),
        suffix=keras.Model(crossing[0] if single else crossing, model.outputs[0], name="suffix"),
        boundary=boundary,
        prefix_layers=graph.prefix_names(),
    )


def is_stochastic(operation: Any) -> bool:
    """Whether a layer, or one inside it, draws random numbers: it holds a seed generator."""
    layers = operation._flatten_layers() if hasattr(operation, "_flatten_layers") else ()
    return any(getattr(layer, "_seed_generators", ()) for layer in layers)


def is_fixed(operation: Any) -> bool:
    """Whether an operation computes the same thing at every step of a stage: no weight trains, no statistic moves, no dice."""
    if is_stochastic(operation):
        return False
    if getattr(operation, "trainable_weights", ()):
        return False
    layers = operation._flatten_layers() if hasattr(operation, "_flatten_layers") else ()
    return not any(hasattr(layer, "moving_mean") and layer.trainable for layer in layers)


class _Graph:
    """The nodes that a model's output depends on, inputs first."""

    def __init__(self, model: keras.Model) -> None:
        self.output = model.outputs[0]
        self.nodes = list(nodes_before(self.output))
        self.fixed: set[int] = set()
        for node in self.nodes:
            if is_fixed(node.operation) and all(id(_node_of(t)) in self.fixed for t in node.input_tensors):
                self.fixed.add(id(node))

    def crossing(self) -> list[Any]:
        """Tensors made before the cut and read after it, in the order of the graph."""
        found: dict[int, Any] = {}
        for node in self.nodes:
            if id(node) not in self.fixed:
                for tensor in node.input_tensors:
                    if id(_node_of(tensor)) in self.fixed:
                        found.setdefault(id(tensor), tensor)
        return list(found.values())

    def prefix_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node.operation.name for node in self.nodes if id(node) in self.fixed))


def _history(tensor: Any) -> Any:
    return tensor._keras_history


def _node_of(tensor: Any) -> Any:
    history = _history(tensor)
    return history.operation._inbound_nodes[history.node_index]


def nodes_before(*outputs: Any) -> Iterator[Any]:
    """The nodes that tensors depend on, inputs first: depth first without recursion, since a network can be deeper than Python's stack."""
    done: set[int] = set()
    stack = [(_node_of(output), False) for output in outputs]
    while stack:
        node, is_ready = stack.pop()
        if id(node) in done:
            continue
        if is_ready:
            done.add(id(node))
            yield node
            continue
        stack.append((node, True))
        stack.extend((_node_of(t), False) for t in node.input_tensors if id(_node_of(t)) not in done)
