"""Whether two pictures that lie on each other have the same grey levels in enough places: what a watermark leaves between its letters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.align import BLOCKS, detail_of
from finetunekit.data.audit.frequencies import Float32

#: Grey levels by which a place with detail differs from its surroundings, at least.
_DETAIL = 5.0
#: Darker and brighter places do not count: frames and black corners are alike in any two photos.
_DARKEST, _BRIGHTEST = 10, 245
#: Places of a block that make some of it, in parts of it.
_SOME = 1 / 8
_ROBUST_LEVELS = 3.0
_ROUNDS = 12


class EqualPixels(NamedTuple):
    """How much of each pair is equal.

    Attributes:
        share: `(pairs,)`, of the places with detail in the first picture.
        places: `(pairs,)`, how many they are, in parts of the grid.
        blocks: `(pairs,)`, number of blocks with some.
        slope: `(pairs,)`, contrast of the second picture by that of the first.
    """

    share: NDArray[np.float64]
    places: NDArray[np.float64]
    blocks: NDArray[np.int64]
    slope: Float32


def equal_pixels(seen: Float32, wanted: Float32, inside: Float32, within: float) -> EqualPixels:
    """Where pictures agree pixel by pixel, in places with detail, whatever the others show.

    Args:
        seen: `(pairs, grid, grid)`, grey levels of the first pictures in the overlap.
        wanted: The same of the second ones.
        inside: 1 where there is a first picture, else 0.
        within: Grey levels by which equal places differ, at most, from a straight line for the whole pair, and from their surroundings.
    """
    pairs, grid, _ = seen.shape
    (slope, level), one, other = _fitted_line(seen, wanted, inside), detail_of(seen, inside), detail_of(wanted, inside)
    has_detail = (np.abs(one) > _DETAIL) & (inside > 0.5) & _is_told(seen) & _is_told(wanted)
    is_equal = has_detail & (np.abs(wanted - slope * seen - level) < within) & (np.abs(other - slope * one) < within)
    places, side = is_equal.sum(axis=(1, 2)), grid // BLOCKS
    by_block = is_equal.reshape(pairs, BLOCKS, side, BLOCKS, side).sum(axis=(2, 4))
    return EqualPixels(
        places / np.maximum(has_detail.sum(axis=(1, 2)), 1),
        places / grid**2,
        (by_block >= _SOME * side * side).sum(axis=(1, 2)),
        slope[:, 0, 0],
    )


def _is_told(levels: Float32) -> NDArray[np.bool_]:
    return (levels > _DARKEST) & (levels < _BRIGHTEST)


def _fitted_line(seen: Float32, wanted: Float32, inside: Float32) -> tuple[Float32, Float32]:
    """Slope and level of the second picture's brightness by the first one's, `(pairs, 1, 1)` each.

    The weights let places far off count little (Geman and McClure 1987).
    """
    weight = inside / (1 + ((wanted - seen) / (8 * _ROBUST_LEVELS)) ** 2)
    for _ in range(_ROUNDS):
        total = weight.sum(axis=(1, 2), keepdims=True) + 1e-6
        middle, level = ((weight * shown).sum(axis=(1, 2), keepdims=True) / total for shown in (seen, wanted))
        spread = (weight * (seen - middle) ** 2).sum(axis=(1, 2), keepdims=True)
        product = (weight * (seen - middle) * (wanted - level)).sum(axis=(1, 2), keepdims=True)
        slope = np.clip((product + total) / (spread + total), 0.2, 5)
        off = wanted - level - slope * (seen - middle)
        weight = inside / (1 + (off / _ROBUST_LEVELS) ** 2) ** 2
    return slope, level - slope * middle
