"""Numbers of 48 bits as pairs of float32, in TensorFlow operations that every converter knows: other runtimes have no float64.

A number is the unrounded sum of both parts. Nothing here has a constant that 16 bits cannot hold: converters round those of a graph.

Source: Dekker 1971, A floating-point technique for extending the available precision, doi:10.1007/BF01397083; Knuth, The Art of Computer
Programming 2, 4.2.2, theorem B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import tensorflow as tf

HALF_WORD = 4096.0
"""2**12: the upper half of a float32's 24 bits."""


class FloatPair(NamedTuple):
    """A number as its float32, and what that leaves."""

    high: tf.Tensor
    low: tf.Tensor


def pair_of(number: Any) -> FloatPair:
    """A number that float32 holds; whole numbers are up to 2**24."""
    import tensorflow as tf

    high = tf.cast(number, tf.float32)
    return FloatPair(high, tf.zeros_like(high))


def add(one: FloatPair, other: FloatPair) -> FloatPair:
    """Their sum, to 2**-47 of the larger."""
    total = one.high + other.high
    part = total - one.high
    error = (one.high - (total - part)) + (other.high - part)
    return _joined(total, error + (one.low + other.low))


def multiply(one: FloatPair, other: FloatPair) -> FloatPair:
    """Their product, to 2**-46 of it."""
    product = one.high * other.high
    (a, b), (c, d) = _halves(one.high), _halves(other.high)
    # differences, in this order: sums of several are put into another order by TensorFlow's optimizer
    error = b * d - (((product - a * c) - a * d) - b * c)
    return _joined(product, error + (one.high * other.low + one.low * other.high))


def divide(one: FloatPair, other: FloatPair) -> FloatPair:
    """Their quotient, to 2**-45 of it."""
    quotient = pair_of(one.high / other.high)
    taken = multiply(quotient, other)
    rest = add(one, FloatPair(-taken.high, -taken.low))
    return _joined(quotient.high, rest.high / other.high)


def choose(condition: tf.Tensor, one: FloatPair, other: FloatPair) -> FloatPair:
    """The first where the condition holds, else the second."""
    import tensorflow as tf

    return FloatPair(*(tf.where(condition, first, second) for first, second in zip(one, other, strict=True)))


def total(numbers: FloatPair) -> FloatPair:
    """The sum of each row of `(rows, columns)` numbers, `(rows, 1)`, to 2**-46 for each; up to 8192 in [-1, 1].

    Each number is cut into parts that are multiples of 2**-11, of 2**-22 and what is left; sums of the first two are exact.
    """
    import tensorflow as tf

    def summed(part: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(part, axis=1, keepdims=True)

    step = 2.0**11
    coarse = tf.floor(numbers.high * step) / step
    rest = (numbers.high - coarse) + numbers.low
    left = ((numbers.high - coarse) - rest) + numbers.low
    fine = tf.floor(rest * step * step) / step / step
    return add(pair_of(summed(coarse)), add(pair_of(summed(fine)), pair_of(summed((rest - fine) + left))))


def _joined(high: tf.Tensor, low: tf.Tensor) -> FloatPair:
    """Two numbers, the second of which is small beside the first, as a pair."""
    joined = high + low
    return FloatPair(joined, low - (joined - high))


def _halves(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A float32 as the sum of two of 12 bits, whose products are exact."""
    large = HALF_WORD * number + number
    high = large - (large - number)
    return high, number - high
