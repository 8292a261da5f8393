"""Pillow's `Image.resize` as TensorFlow operations that every converter knows: two matrix products, for a photo of any size.

Pillow works in whole numbers: weights are rounded to 22 bits, their sums to grey levels after each of the two passes. What is computed here
are the same whole numbers, so that every filter gives Pillow's pixels to the bit. Weights of box and bilinear are fractions of small whole
numbers; those of bicubic and lanczos are computed in 45 bits where Pillow has 53, and rounded to the same 22.

Source: Pillow 13, src/libImaging/Resample.c (`precompute_coeffs`, `ImagingResampleHorizontal_8bpc`), Geometry.c (nearest), Image.py.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetunekit.data.decode import PAD_LEVEL
from finetunekit.exporting.float_pairs import FloatPair, add, choose, divide, multiply, pair_of, total

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from numpy.typing import NDArray

#: Half-width of a filter in pixels of the smaller scale.
SUPPORT = {"bicubic": 2, "lanczos": 3}
TERMS = 10
"""Of the series of the sine: the next one is 2**-52."""
BITS, LOWER_BITS = 22, 11
"""Of a weight (`PRECISION_BITS` in Resample.c), and of its lower part here."""
LONGEST_PX = 8192
"""Side of a photo up to which `nearest` and `box` are exact; in longer ones a pixel may be its neighbour."""
VERTICAL_FIRST_SINCE = (13, 0)
"""Version of Pillow from which on the height is resized first where it shrinks by more than twice as many pixels as the width.

Source: python-pillow/Pillow#9549; the bound is as measured on 13.0 (`tests/exporting/test_resampling_graph.py` compares both orders).
"""
TALL_FIRST_SINCE, TALL = (12, 3), 100
"""Version from which on, before that, it was resized first where it is more than so many times the width; see its Image.py."""


def resize_photos(photos: tf.Tensor, height_px: Any, width_px: Any, resize: str) -> tf.Tensor:
    """Resize photos as Pillow does.

    Args:
        photos: `(batch, height, width, 3)` float32 whole numbers in [0, 255]; height and width may be known only when the graph runs.
        height_px: Wanted; a number, or an int32 scalar tensor.
        width_px: As `height_px`.
        resize: `nearest`, `box`, `bilinear`, `bicubic` or `lanczos`.

    Returns:
        `(batch, height_px, width_px, 3)` float32 whole numbers in [0, 255].
    """
    import tensorflow as tf

    height, width = tf.shape(photos)[1], tf.shape(photos)[2]
    if resize == "nearest":
        rows = tf.gather(photos, _nearest(height, height_px), axis=1)
        return tf.gather(rows, _nearest(width, width_px), axis=2)
    across, down = _weights(width, width_px, resize), _weights(height, height_px, resize)
    version = _pillow_version()
    if version < TALL_FIRST_SINCE:
        return _vertical(_horizontal(photos, across), down)
    is_much = height - height_px > 2 * (width - width_px) if version >= VERTICAL_FIRST_SINCE else height > TALL * width
    return tf.cond(
        tf.logical_and(height > height_px, is_much),
        lambda: _horizontal(_vertical(photos, down), across),
        lambda: _vertical(_horizontal(photos, across), down),
    )


def pad_photos(photos: tf.Tensor, size_px: int, resize: str) -> tf.Tensor:
    """Pad photos to squares and resize those, as `finetunekit.data.decode.fit_photo` does with `pad`.

    Args:
        photos: As in `resize_photos`.
        size_px: Side of the square.
        resize: As in `resize_photos`.

    Returns:
        `(batch, size_px, size_px, 3)` float32 whole numbers in [0, 255].
    """
    import tensorflow as tf

    is_tall = tf.shape(photos)[1] > tf.shape(photos)[2]

    def turned(upright: tf.Tensor) -> tf.Tensor:
        return tf.transpose(upright, (0, 2, 1, 3))

    wide = tf.cond(is_tall, lambda: turned(photos), lambda: photos)
    height, width = tf.shape(wide)[1], tf.shape(wide)[2]
    narrowed = _across(wide, size_px, resize)  # (batch, height, size_px, 3)
    above = (width - height) // 2
    margins = tf.stack((tf.stack((0, 0)), tf.stack((above, width - height - above)), (0, 0), (0, 0)))
    padded = (
        tf.pad(narrowed - PAD_LEVEL, margins) + PAD_LEVEL
    )  # padding with zeros is the one that every converter knows
    square = turned(_across(turned(padded), size_px, resize))
    return tf.cond(is_tall, lambda: turned(square), lambda: square)


def _across(photos: tf.Tensor, size_px: int, resize: str) -> tf.Tensor:
    """Their width alone resized."""
    import tensorflow as tf

    width = tf.shape(photos)[2]
    if resize == "nearest":
        return tf.gather(photos, _nearest(width, size_px), axis=2)
    return _horizontal(photos, _weights(width, size_px, resize))


def _pillow_version() -> tuple[int, int]:
    import PIL

    major, minor = PIL.__version__.split(".")[:2]
    return int(major), int(minor)


def _horizontal(photos: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    import tensorflow as tf

    return tf.transpose(_resample(tf.transpose(photos, (0, 1, 3, 2)), weights), (0, 1, 3, 2))


def _vertical(photos: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    import tensorflow as tf

    return tf.transpose(_resample(tf.transpose(photos, (0, 2, 3, 1)), weights), (0, 3, 1, 2))


def _resample(lines: tf.Tensor, weights: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """The last axis of `lines`, `(batch, a, b, size)`, resampled and rounded.

    Pillow's sums are whole numbers larger than float32 holds. With the weights split into upper and lower bits, both sums are whole
    numbers below 2**24 (the lower one for up to 64 weights a pixel), hence exact in any order, and so is the rounding of their sum.
    """
    import tensorflow as tf

    upper, lower = weights
    shape = tf.shape(lines)
    flat = tf.reshape(lines, (-1, shape[3]))
    coarse = tf.matmul(flat, upper) / 2.0 ** (BITS - LOWER_BITS)
    level = tf.floor(coarse)
    rest = (coarse - level) + tf.matmul(flat, lower) / 2.0**LOWER_BITS / 2.0 ** (BITS - LOWER_BITS)
    rounded = tf.clip_by_value(level + tf.floor(rest + 0.5), 0.0, 255.0)
    return tf.reshape(rounded, (shape[0], shape[1], shape[2], tf.shape(upper)[1]))


def _nearest(size: tf.Tensor, out_px: int) -> tf.Tensor:
    """Which pixel of a line each pixel of the new line is."""
    import tensorflow as tf

    return ((2 * tf.range(out_px) + 1) * size) // (2 * out_px) - _one_where(_short_sums(out_px), size, out_px)


def _one_where(places: tuple[int, ...], size: tf.Tensor, out_px: int) -> Any:
    """1 for each pixel of the new line whose `size * out_px + place` is listed, `(out_px,)` int32."""
    import tensorflow as tf

    if not places:
        return 0
    is_listed = tf.equal(tf.constant(places, tf.int32)[:, tf.newaxis], (size * out_px + tf.range(out_px))[tf.newaxis])
    return tf.reduce_max(tf.cast(is_listed, tf.int32), axis=0)


def _listed(is_listed: NDArray[np.bool_]) -> tuple[int, ...]:
    """`size * out_px + place` where a table, `(LONGEST_PX, out_px)` for sizes from 1, holds."""
    import numpy as np

    return tuple((np.flatnonzero(is_listed) + is_listed.shape[1]).tolist())


@functools.cache
def _short_sums(out_px: int) -> tuple[int, ...]:
    """Where `nearest` takes the pixel before: Pillow adds up steps of `size / out_px`, and the sum falls short of a whole number."""
    import numpy as np

    size, place = np.arange(1, LONGEST_PX + 1)[:, np.newaxis], np.arange(out_px)
    steps = np.repeat(size / out_px, out_px, axis=1)
    steps[:, 0] *= 0.5
    summed = np.cumsum(steps, axis=1).astype(np.int64)  # one after the other, as Pillow does
    return _listed(summed < ((2 * place + 1) * size) // (2 * out_px))


@functools.cache
def _short_edges(out_px: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the first pixel that `box` covers, and the one behind its last, is the one before: Pillow's edges are rounded products."""
    import numpy as np

    size, place = np.arange(1, LONGEST_PX + 1)[:, np.newaxis], np.arange(out_px)
    scale = size / out_px
    stretch, centre = np.maximum(scale, 1.0), (place + 0.5) * scale
    low = np.maximum((centre - 0.5 * stretch + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + 0.5 * stretch + 0.5).astype(np.int64), size)
    low += (low - centre + 0.5) * (1.0 / stretch) <= -0.5
    high -= (high - 1 - centre + 0.5) * (1.0 / stretch) > 0.5
    first, end = _edges(size, place, out_px)
    is_shrinking = size >= out_px
    inside = ((2 * place + 1) * size) // (2 * out_px)
    first, end = np.where(is_shrinking, first, inside), np.where(is_shrinking, end, inside + 1)
    return _listed(low < first), _listed(high < end)


def _edges(size: Any, new: Any, out_px: Any) -> tuple[Any, Any]:
    """First pixel that each new pixel covers, and the one behind its last."""
    return (2 * new * size + out_px) // (2 * out_px), (2 * (new + 1) * size + out_px) // (2 * out_px)


def _weights(size: tf.Tensor, out_px: Any, resize: str) -> tuple[tf.Tensor, tf.Tensor]:
    """What each pixel of a line contributes to each of the new line, `(size, out_px)` float32: upper and lower bits of whole numbers."""
    import tensorflow as tf

    if resize in SUPPORT:
        whole = _curved(size, out_px, resize)
        upper = tf.floor(whole / 2.0**LOWER_BITS + 0.5)
        return upper, whole - upper * 2.0**LOWER_BITS
    share = _box(size, out_px) if resize == "box" else _triangle(size, out_px)
    fixed = _divide(share, tf.reduce_sum(share, axis=0, keepdims=True))
    high = (fixed + 2 ** (LOWER_BITS - 1)) // 2**LOWER_BITS
    return tf.cast(high, tf.float32), tf.cast(fixed - high * 2**LOWER_BITS, tf.float32)


def _triangle(size: tf.Tensor, out_px: Any) -> tf.Tensor:
    """The bilinear filter in whole numbers, `(size, out_px)` int32, columns not yet brought to one sum."""
    import tensorflow as tf

    distance = tf.abs((2 * tf.range(size)[:, tf.newaxis] + 1) * out_px - (2 * tf.range(out_px) + 1) * size)
    return tf.maximum(2 * tf.maximum(size, out_px) - distance, 0)


def _box(size: tf.Tensor, out_px: int) -> tf.Tensor:
    """1 for each pixel that the new one covers, or for the one in which it lies."""
    import tensorflow as tf

    place, new = tf.range(size)[:, tf.newaxis], tf.range(out_px)
    first, end = _edges(size, new, out_px)
    inside = ((2 * new + 1) * size) // (2 * out_px)
    low, high = _short_edges(out_px)
    first = tf.where(size >= out_px, first, inside) - _one_where(low, size, out_px)
    end = tf.where(size >= out_px, end, inside + 1) - _one_where(high, size, out_px)
    return tf.cast(tf.logical_and(place >= first, place < end), tf.int32)


def _divide(part: tf.Tensor, whole: tf.Tensor) -> tf.Tensor:
    """`round(part / whole * 2**BITS)` by long division, no step of which leaves int32."""
    quotient, rest = part // whole, part % whole
    for bits in (8, 7, 7):
        rest = rest * 2**bits
        quotient, rest = quotient * 2**bits + rest // whole, rest % whole
    return quotient + (2 * rest) // whole


@dataclass(frozen=True)
class _Taps:
    """The pixels of a line that each pixel of the new line is made of: as many for each, some of which may lie outside of the line.

    Attributes:
        first: Place of the first, `(out_px,)` int32; negative where it lies before the line.
        is_inside: `(out_px, taps)`.
        distance: From the middle of the new pixel, `(out_px, taps)` int32, counted so that
        unit: is as far as the filter's argument 1, scalar int32.
    """

    first: tf.Tensor
    is_inside: tf.Tensor
    distance: tf.Tensor
    unit: tf.Tensor


def _curved(size: tf.Tensor, out_px: Any, resize: str) -> tf.Tensor:
    """The bicubic or Lanczos filter as Pillow rounds it, `(size, out_px)` float32 whole numbers, columns sum to about 2**BITS."""
    import tensorflow as tf

    taps = _taps(size, out_px, SUPPORT[resize])
    value = _bicubic(taps) if resize == "bicubic" else _lanczos(taps)
    is_within = tf.logical_and(taps.is_inside, taps.distance < SUPPORT[resize] * taps.unit)
    value = choose(is_within, value, pair_of(tf.zeros_like(taps.distance)))
    return _spread(_rounded(divide(value, total(value))), taps, size)


def _taps(size: tf.Tensor, out_px: Any, support: int) -> _Taps:
    import tensorflow as tf

    longer, new = tf.maximum(size, out_px), tf.range(out_px)
    # the middle of the new pixel is (2 new + 1) size / (2 out_px), the filter reaches support * longer / out_px to both sides
    first = ((2 * new + 1) * size - 2 * support * longer) // (2 * out_px)
    count = 2 * support * longer // out_px + 3
    place = first[:, tf.newaxis] + tf.range(count)
    distance = tf.abs((2 * place + 1) * out_px - (2 * new[:, tf.newaxis] + 1) * size)
    return _Taps(first, tf.logical_and(place >= 0, place < size), distance, 2 * longer)


def _rounded(weights: FloatPair) -> tf.Tensor:
    """Weights times 2**BITS to whole numbers, halves away from 0, as float32."""
    import tensorflow as tf

    sign, step = tf.sign(weights.high), 2.0**LOWER_BITS  # in two steps: 16 bits have no number beyond 65,504
    high, low = (part * sign * step * 2.0 ** (BITS - LOWER_BITS) for part in weights)
    whole = tf.floor(high)
    # compared, not added up: TensorFlow's optimizer would add the small numbers to the large one first
    return sign * (whole + tf.cast(high - whole >= 0.5 - low, tf.float32))


def _spread(weights: tf.Tensor, taps: _Taps, size: tf.Tensor) -> tf.Tensor:
    """`(out_px, taps)` to `(size, out_px)`, 0 where no tap is."""
    import tensorflow as tf

    count = tf.shape(weights)[1]
    which = tf.range(size)[:, tf.newaxis] - taps.first
    is_tap = tf.logical_and(which >= 0, which < count)
    row = tf.range(tf.shape(weights)[0]) * count
    found = tf.gather(tf.reshape(weights, (-1,)), row + tf.clip_by_value(which, 0, count - 1))
    return found * tf.cast(is_tap, tf.float32)


def _bicubic(taps: _Taps) -> FloatPair:
    """Twice the filter (a = -1/2)."""
    x = divide(pair_of(taps.distance), pair_of(taps.unit))
    two, three, four, five, eight = (pair_of(number) for number in (2.0, 3.0, 4.0, -5.0, -8.0))
    near = add(multiply(multiply(x, x), add(multiply(x, three), five)), two)
    minus = FloatPair(-x.high, -x.low)
    far = add(multiply(x, add(multiply(x, add(minus, pair_of(5.0))), eight)), four)
    return choose(taps.distance < taps.unit, near, far)


def _lanczos(taps: _Taps) -> FloatPair:
    import tensorflow as tf

    both = _sinc(taps.distance, taps.unit * tf.constant((1, 3), tf.int32)[:, tf.newaxis, tf.newaxis])
    return multiply(*(FloatPair(both.high[i], both.low[i]) for i in range(2)))


def _sinc(distance: tf.Tensor, unit: tf.Tensor) -> FloatPair:
    """`sin(pi x) / (pi x)` of `x = distance / unit`, `(units, out_px, taps)`.

    With n the whole number nearest to x and r = x - n, it is (-1)**n r / x sin(pi r) / (pi r); the last is a series in (2 r)**2.
    """
    import tensorflow as tf

    nearest = (2 * distance + unit) // (2 * unit)
    rest = distance - nearest * unit
    sign = 1 - 2 * (nearest % 2)
    ratio = divide(pair_of(sign * rest), pair_of(tf.maximum(distance, 1)))
    ratio = choose(tf.equal(nearest, 0), pair_of(tf.ones_like(rest)), ratio)
    twice = divide(pair_of(2 * rest), pair_of(unit))
    square, coefficients = multiply(twice, twice), _series(unit)
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = add(multiply(value, square), coefficient)
    return multiply(ratio, value)


def _series(unit: tf.Tensor) -> list[FloatPair]:
    """Coefficients of sin(pi r) / (pi r) for powers of (2 r)**2, to 2**-46.

    Made of whole numbers, times a 1 that is not known before the graph runs: whoever writes 16 bits rounds constants.
    """
    import tensorflow as tf

    one = tf.minimum(tf.reduce_max(unit), 1)
    step = tf.cast(one * 2**21, tf.float32)
    whole = [round((-1) ** m * (math.pi / 2) ** (2 * m) / math.factorial(2 * m + 1) * 2**42) for m in range(TERMS)]
    parts = tf.cast(one * tf.constant([divmod(number, 2**21) for number in whole], tf.int32), tf.float32)
    return [add(pair_of(parts[m, 0] / step), pair_of(parts[m, 1] / step / step)) for m in range(TERMS)]
