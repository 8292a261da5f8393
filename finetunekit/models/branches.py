"""Branches of a network that share nothing but its input and end in one vector each, computed one after the other.

TensorFlow begins all of them at once, and holds the maps of all of them in memory. One after the other they take no longer, since each
uses every processor, and the sums are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from finetunekit.models.frozen_prefix import nodes_before

if TYPE_CHECKING:
    import keras


def branch_by_branch(model: keras.Model) -> Callable[[Any], Any]:
    """What a network answers at inference, its branches in order where it has any; for use while a graph is traced.

    Args:
        model: Any inputs → any outputs.

    Returns:
        A function of the model's inputs, one tensor or a list of them.
    """
    import keras
    import tensorflow as tf

    vectors = _branches(model)
    if not vectors:
        return lambda given: model(given, training=False)
    branches = [keras.Model(model.inputs[0], vector) for vector in vectors]
    rest = keras.Model(vectors, model.outputs if len(model.outputs) > 1 else model.outputs[0])

    def answer(given: Any) -> Any:
        made: list[Any] = []
        for branch in branches:
            with tf.control_dependencies(made[-1:]):
                made.append(branch(given, training=False))
        return rest(made, training=False)

    return answer


def _branches(model: keras.Model) -> list[Any]:
    """The vectors `(batch, channels)` in which branches end, all that the outputs depend on; empty where there are no such branches."""
    nodes = list(nodes_before(*model.outputs))
    if len(model.inputs) > 1:
        return []
    for node in nodes:
        vectors = list({id(tensor): tensor for tensor in node.input_tensors}.values())
        if len(vectors) > 1 and all(len(tensor.shape) == 2 for tensor in vectors):
            return vectors if _are_apart(vectors) and _are_all(vectors, model.outputs, nodes) else []
    return []


def _are_apart(tensors: list[Any]) -> bool:
    """Whether no operation but the input is before two of them."""
    seen: set[int] = set()
    for tensor in tensors:
        own = {id(node) for node in nodes_before(tensor) if not node.is_input}
        if not own or own & seen:
            return False
        seen |= own
    return True


def _are_all(tensors: list[Any], outputs: list[Any], nodes: list[Any]) -> bool:
    """Whether outputs, and what comes between, read nothing else of what is before these tensors."""
    before = {id(node) for node in nodes_before(*tensors)}
    made = {id(tensor) for node in nodes if id(node) not in before for tensor in node.output_tensors}
    read = {id(tensor) for node in nodes if id(node) not in before for tensor in node.input_tensors}
    return read - made == {id(tensor) for tensor in tensors} and {id(tensor) for tensor in outputs} <= made
