"""Numbers of 48 bits as pairs of float32."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from finetunekit.exporting.float_pairs import FloatPair, add, divide, multiply, total


def pairs(seed: int) -> FloatPair:
    import tensorflow as tf

    random = np.random.default_rng(seed)
    high = random.uniform(0.1, 3, 500).astype(np.float32)
    return FloatPair(
        tf.constant(high), tf.constant((high * random.uniform(-(2.0**-25), 2.0**-25, 500)).astype(np.float32))
    )


def exactly(number: FloatPair) -> list[Fraction]:
    parts = (part.numpy().ravel().tolist() for part in number)
    return [Fraction(high) + Fraction(low) for high, low in zip(*parts, strict=True)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(add, Fraction.__add__), (multiply, Fraction.__mul__), (divide, Fraction.__truediv__)],
)
def test_results_are_right_to_45_bits_where_tensorflow_optimizes_the_graph(
    ours: Callable[[FloatPair, FloatPair], FloatPair], theirs: Callable[[Fraction, Fraction], Fraction]
) -> None:
    import tensorflow as tf

    one, other = pairs(0), pairs(1)
    found = exactly(tf.function(ours)(one, other))
    for result, a, b in zip(found, exactly(one), exactly(other), strict=True):
        assert abs(result / theirs(a, b) - 1) < Fraction(1, 2**45)


def test_sums_of_many_are_off_by_less_than_46_bits_of_each() -> None:
    import tensorflow as tf

    numbers = FloatPair(*(tf.reshape(part / 3.0, (5, 100)) for part in pairs(2)))
    expected = np.array(exactly(numbers)).reshape(5, 100).sum(axis=1)
    for result, own in zip(exactly(tf.function(total)(numbers)), expected, strict=True):
        assert abs(result - own) < Fraction(100, 2**46)
