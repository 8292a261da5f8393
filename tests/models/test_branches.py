"""Branches that end in one vector each: the same answers, one branch after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from finetunekit.models.branches import branch_by_branch
from finetunekit.models.folded_norm import trace_forward


def joined(*, reads_between: bool = False, has_trunk: bool = False) -> Any:
    """Two branches of a photo side by side, before a Dense layer.

    Args:
        reads_between: Whether a map of the first branch is read past its end.
        has_trunk: Whether both begin with the same convolution.
    """
    import keras
    from keras import layers

    inputs = keras.Input((8, 8, 3))
    start = layers.Conv2D(4, 3, name="trunk")(inputs) if has_trunk else inputs
    first, second = (layers.Conv2D(5, 3, name=name)(start) for name in ("first", "second"))
    vectors = [layers.GlobalAveragePooling2D()(branch) for branch in (first, second)]
    logits = layers.Dense(2)(layers.Concatenate()(vectors))
    if reads_between:
        logits = layers.Add()([logits, layers.Dense(2)(layers.Flatten()(first))])
    return keras.Model(inputs, logits)


def traced(model: Any) -> Any:
    import tensorflow as tf

    return trace_forward(model, tf.TensorSpec((4, 8, 8, 3), tf.float32))


def waits(graph: Any) -> bool:
    """Whether an operation of the second branch waits for the end of the first."""
    by_name = {operation.name: operation for operation in graph.graph.get_operations()}
    waiting = [one for one in by_name.values() if one.control_inputs and "NoOp" not in one.type]
    return any("second" in one.name and any("average" in c.name for c in one.control_inputs) for one in waiting)


def test_branches_are_computed_in_turn_to_the_same_bits() -> None:
    model = joined()
    graph = traced(model)
    assert waits(graph)
    photos = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    assert np.array_equal(graph(photos).numpy(), model(photos, training=False).numpy())


def test_what_is_not_apart_is_computed_as_it_stands() -> None:
    for model in (joined(reads_between=True), joined(has_trunk=True)):
        assert not waits(traced(model))
        photos = np.ones((4, 8, 8, 3), np.float32)
        assert np.array_equal(branch_by_branch(model)(photos).numpy(), model(photos, training=False).numpy())
