"""A rate for each variable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from finetunekit.config.training_sections import OptimizerSection
from finetunekit.training.optimizers import build_optimizer


def steps(section: OptimizerSection, multiplier: float, count: int = 3) -> list[Any]:
    import keras
    import tensorflow as tf

    variables = [keras.Variable(np.ones(2, np.float32), name="a"), keras.Variable(np.ones(2, np.float32), name="b")]
    rates = {variables[0].path: multiplier, variables[1].path: 1.0}
    optimizer = build_optimizer(section, variables, rates)
    for number in range(count):
        gradients = [tf.constant([0.5, -0.25]) * (number + 1)] * 2
        optimizer.apply(gradients, variables)
    return [v.numpy() for v in variables]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_multiplier_equals_another_learning_rate(name: Any) -> None:
    section = OptimizerSection(name=name, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
    scaled, plain = steps(section, 0.25)
    quarter, _ = steps(section.model_copy(update={"learning_rate": 0.025}), 1.0)
    assert np.allclose(scaled, quarter, rtol=1e-6)
    assert not np.allclose(scaled, plain, rtol=1e-3)


def stepper(optimizer: Any, variable: Any) -> Callable[[Any], None]:
    optimizer.build([variable])
    return lambda gradient: optimizer.apply([gradient], [variable])


@pytest.mark.parametrize(
    "section",
    [
        OptimizerSection(learning_rate=1e-3, momentum=0.9),
        OptimizerSection(learning_rate=1e-3, momentum=0.9, weight_decay=0.01, clip_norm=1.0),
        OptimizerSection(learning_rate=1e-3, momentum=0.0),
    ],
)
@pytest.mark.parametrize("is_graph", [True, False])
def test_sgd_ends_at_the_bits_of_keras_own(section: OptimizerSection, is_graph: bool) -> None:
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(0)
    start = rng.standard_normal((65, 33)).astype(np.float32)
    gradients = [tf.constant(rng.standard_normal(start.shape).astype(np.float32)) for _ in range(5)]
    own, theirs = keras.Variable(start, name="a"), keras.Variable(start, name="b")
    keras_own = keras.optimizers.SGD(
        section.learning_rate,
        momentum=section.momentum,
        weight_decay=section.weight_decay or None,
        global_clipnorm=section.clip_norm,
    )
    for variable, optimizer in ((own, build_optimizer(section, [own], {own.path: 1.0})), (theirs, keras_own)):
        step = stepper(optimizer, variable)
        run = tf.function(step) if is_graph else step
        for gradient in gradients:
            run(gradient)
    assert np.array_equal(own.numpy(), theirs.numpy())
    assert not np.array_equal(own.numpy(), start)


def test_sgd_takes_the_gradient_of_looked_up_rows() -> None:
    import keras
    import tensorflow as tf

    variable = keras.Variable(np.ones((4, 2), np.float32), name="a")
    optimizer = build_optimizer(OptimizerSection(learning_rate=0.5, momentum=0.9), [variable], {variable.path: 1.0})
    rows = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([2]), tf.constant([4, 2]))
    tf.function(lambda: optimizer.apply([rows], [variable]))()
    assert variable.numpy().tolist() == [[1.0, 1.0], [1.0, 1.0], [0.5, 0.5], [1.0, 1.0]]
