"""A photo's low frequencies as unit vectors: of the whole, and of halves and quarters.

Two files of one photo have nearly the same vector, whatever their size, compression, brightness or contrast; a turned or mirrored
photo's is the photo's own in another order with other signs, an inverted one's its negative.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.frequencies import SEARCHED_PX, Float32, cosine_rows, weights

#: Cosines along each axis, the constant one included.
COSINES = 8
#: Length of a vector: every product of two cosines but the constant one.
DIMENSIONS = COSINES * COSINES - 1
#: The eight ways to lay a square on itself: (swapped axes, sign across, sign down), the axes swapped before the signs.
ORIENTATIONS = tuple(itertools.product((False, True), (1, -1), (1, -1)))
#: Halves and quarters of a photo, as a collage has them, (left, top, right, bottom) in parts of its sides.
PARTS = (
    *((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0)),
    *((0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5), (0.0, 0.5, 0.5, 1.0), (0.5, 0.5, 1.0, 1.0)),
)
WHOLE = (0.0, 0.0, 1.0, 1.0)
_WEIGHTS = weights(COSINES)
_ODD = np.where(np.arange(COSINES) % 2, -1, 1).astype(np.float32)


class Windows(NamedTuple):
    """Windows of some photos, each seen in one orientation.

    Attributes:
        photo: `(windows,)` int64.
        box: `(windows, 4)` float32: left, top, right, bottom in parts of the photo's sides.
        orientation: `(windows,)` int64, position in `ORIENTATIONS`.
        is_inverted: `(windows,)` bool.
        vectors: `(windows, DIMENSIONS)` float32, of length 1; zeros where a window is of one level.
    """

    photo: NDArray[np.int64]
    box: Float32
    orientation: NDArray[np.int64]
    is_inverted: NDArray[np.bool_]
    vectors: Float32


def whole_windows(grey: NDArray[np.uint8]) -> Windows:
    """What photos are known by: each whole, upright.

    Args:
        grey: `(photos, SEARCHED_PX, SEARCHED_PX)` uint8.
    """
    return _windows(grey, [WHOLE], (0,))


def asked_windows(grey: NDArray[np.uint8]) -> Windows:
    """The windows that a photo is looked for by: the whole in all orientations and inverted, and its parts.

    Args:
        grey: `(photos, SEARCHED_PX, SEARCHED_PX)` uint8.
    """
    wholes = _windows(grey, [WHOLE], range(len(ORIENTATIONS)))
    inverted = _windows(grey, [WHOLE], (0, _MIRRORED))
    inverted = inverted._replace(is_inverted=~inverted.is_inverted, vectors=-inverted.vectors)
    parts = _windows(grey, PARTS, (0, _MIRRORED))
    all_of_them = (wholes, inverted, parts)
    return Windows(
        np.concatenate([some.photo for some in all_of_them]),
        np.concatenate([some.box for some in all_of_them]),
        np.concatenate([some.orientation for some in all_of_them]),
        np.concatenate([some.is_inverted for some in all_of_them]),
        np.concatenate([some.vectors for some in all_of_them]),
    )


_MIRRORED = ORIENTATIONS.index((False, -1, 1))


def orientation_matrix(orientation: int) -> Float32:
    """What takes places in an oriented window, from its middle, to places in the upright one, `(2, 2)`."""
    is_swapped, across, down = ORIENTATIONS[orientation]
    turned = np.diag([across, down]).astype(np.float32)
    return turned[::-1].copy() if is_swapped else turned


def _windows(
    grey: NDArray[np.uint8], boxes: Sequence[tuple[float, float, float, float]], orientations: Sequence[int]
) -> Windows:
    pictures = grey.astype(np.float32)
    coefficients = np.concatenate([_coefficients(pictures, box) for box in boxes])
    photos, times = np.arange(len(grey)), len(orientations)
    return Windows(
        np.tile(photos, len(boxes) * times),
        np.tile(np.repeat(np.array(boxes, np.float32), len(grey), axis=0), (times, 1)),
        np.repeat(np.array(orientations, np.int64), len(coefficients)),
        np.zeros(times * len(coefficients), np.bool_),
        np.concatenate([_unit(_oriented(coefficients, orientation)) for orientation in orientations]),
    )


def _coefficients(pictures: Float32, box: tuple[float, float, float, float]) -> Float32:
    left, top, right, bottom = box
    rows, columns = cosine_rows(top, bottom, SEARCHED_PX, COSINES), cosine_rows(left, right, SEARCHED_PX, COSINES)
    return np.asarray(rows @ pictures @ columns.T, np.float32)


def _oriented(coefficients: Float32, orientation: int) -> Float32:
    is_swapped, across, down = ORIENTATIONS[orientation]
    if is_swapped:
        coefficients = coefficients.transpose(0, 2, 1)
    if across < 0:
        coefficients = coefficients * _ODD
    return coefficients * _ODD[:, np.newaxis] if down < 0 else coefficients


def _unit(coefficients: Float32) -> Float32:
    """`(..., COSINES, COSINES)` → `(..., DIMENSIONS)`: weighted, without the constant, of length 1."""
    flat = coefficients.reshape(*coefficients.shape[:-2], COSINES * COSINES)[..., 1:] * _WEIGHTS
    lengths = np.linalg.norm(flat, axis=-1, keepdims=True)
    unit: Float32 = np.divide(flat, lengths, out=np.zeros_like(flat), where=lengths > 1e-3)
    return unit
