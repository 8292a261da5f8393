"""A rate for each variable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetunekit.config import OptimizerSection
from finetunekit.optimizers import build_optimizer


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


def test_without_multipliers_it_is_keras_own() -> None:
    import keras

    variable = keras.Variable(np.ones(2, np.float32), name="a")
    optimizer = build_optimizer(OptimizerSection(), [variable], {variable.path: 1.0})
    assert type(optimizer) is keras.optimizers.SGD
