"""Keypoints of small grey pictures: blobs of any size, each with its neighbourhood as a short unit vector.

A part of a photo that comes back in another file - cropped, shrunk into a collage, framed, beside a watermark - brings its blobs
along, and each says where the part lies and how large it is.

Source: Lowe 2004, "Distinctive image features from scale-invariant keypoints", IJCV 60(2), sections 3 and 4; neighbourhoods are
upright and told by their lowest frequencies.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.frequencies import SEARCHED_PX, Float32, cosine_rows, signs, weights

#: Standard deviations of the blurs whose differences are searched, in pixels, half an octave apart.
SIGMAS_PX = tuple(float(0.8 * 2 ** (step / 2)) for step in range(9))
#: Least difference of two blurs, in grey levels, of a blob.
LEAST_DIFFERENCE = 0.4
#: A neighbourhood reaches this many standard deviations to each side, and is sampled on a grid of this many lines.
REACH = 5.0
GRID = 10
COSINES = 5
#: Length of a vector.
DIMENSIONS = COSINES * COSINES - 1
#: Shorter sides are drawn to this length at least, so that a neighbourhood fits in.
_LEAST_SIDE_PX = 16
_BLUR_BEFORE_PX = 0.5

Int64 = NDArray[np.int64]

_PLACES = ((np.arange(GRID) + 0.5) / GRID * 2 - 1).astype(np.float32)
_WINDOW = np.exp(-(_PLACES[:, np.newaxis] ** 2) - _PLACES**2).astype(np.float32)
_ROWS = cosine_rows(0.0, 1.0, GRID, COSINES)
_WEIGHTS = weights(COSINES)
#: Signs that mirror a vector.
MIRROR = signs(COSINES)


class Blobs(NamedTuple):
    """Of some pictures, sorted by picture, the strongest of each first.

    Attributes:
        photo: `(keypoints,)` int64, position of the picture.
        rank: `(keypoints,)` int64, 0 for the strongest of a picture.
        place: `(keypoints, 3)` float32: x, y and standard deviation in pixels of the picture in its own proportions.
    """

    photo: Int64
    rank: Int64
    place: Float32


def proportions(aspect: NDArray[np.float64]) -> Float32:
    """(width, height) of pictures in their own proportions, the longer side `SEARCHED_PX` long.

    Args:
        aspect: `(photos,)`, width by height.

    Returns:
        `(photos, 2)` float32, whole numbers.
    """
    sides = np.stack([np.minimum(1.0, aspect), np.minimum(1.0, 1 / aspect)], axis=1)
    return np.maximum(_LEAST_SIDE_PX, np.round(sides * SEARCHED_PX)).astype(np.float32)


class Scales:
    """Pictures at several blurs, in which blobs are found and told.

    Args:
        grey: `(photos, SEARCHED_PX, SEARCHED_PX)` uint8, photos stretched to squares.
        sizes: `(photos, 2)`, what `proportions` says.
    """

    def __init__(self, grey: NDArray[np.uint8], sizes: Float32) -> None:
        self._blurred, self._sizes = _blurred(_in_proportion(grey, sizes)), sizes

    def blobs(self, most: int) -> Blobs:
        """The strongest of each picture, `most` at most; bright and dark ones are largest and smallest among their 26 neighbours.

        Source: Lowe 2004, section 3.1.
        """
        return _blobs(self._blurred, self._sizes, most)

    def describe(self, photo: Int64, place: Float32, turn: float = 0.0) -> Float32:
        """The neighbourhoods of blobs, turned by an angle in radians, as vectors of length 1, `(keypoints, DIMENSIONS)`."""
        return _describe(self._blurred, self._sizes, photo, place, turn)


@functools.cache
def _shrinking(side: int) -> Float32:
    """What takes `SEARCHED_PX` pixels to `side` of them by area; the last is repeated up to `SEARCHED_PX` rows."""
    edges = np.linspace(0, SEARCHED_PX, side + 1)
    starts, ends = np.arange(SEARCHED_PX), np.arange(SEARCHED_PX) + 1
    shares = np.clip(np.minimum(edges[1:, np.newaxis], ends) - np.maximum(edges[:-1, np.newaxis], starts), 0, None)
    shares /= shares.sum(axis=1, keepdims=True)
    return np.concatenate([shares, np.repeat(shares[-1:], SEARCHED_PX - side, axis=0)]).astype(np.float32)


def _in_proportion(grey: NDArray[np.uint8], sizes: Float32) -> Float32:
    columns = np.stack([_shrinking(int(width)) for width in sizes[:, 0]])
    rows = np.stack([_shrinking(int(height)) for height in sizes[:, 1]])
    pictures: Float32 = rows @ grey.astype(np.float32) @ columns.transpose(0, 2, 1)
    return pictures


@functools.cache
def _blur(sigma_px: float) -> Float32:
    """A Gaussian along one axis, edges repeated, `(SEARCHED_PX, SEARCHED_PX)`."""
    steps = np.arange(-SEARCHED_PX, SEARCHED_PX + 1)
    kernel = np.exp(-(steps**2) / (2 * sigma_px**2))
    matrix = np.zeros((SEARCHED_PX, SEARCHED_PX))
    for line in range(SEARCHED_PX):
        np.add.at(matrix[line], np.clip(line + steps, 0, SEARCHED_PX - 1), kernel / kernel.sum())
    return matrix.astype(np.float32)


def _blurred(pictures: Float32) -> Float32:
    """`(photos, SEARCHED_PX, SEARCHED_PX)` → `(photos, SIGMAS_PX, SEARCHED_PX, SEARCHED_PX)`."""
    blurs = [_blur(float(np.sqrt(sigma**2 - _BLUR_BEFORE_PX**2))) for sigma in SIGMAS_PX]
    return np.stack([blur @ pictures @ blur.T for blur in blurs], axis=1)


def _blobs(blurred: Float32, sizes: Float32, most: int) -> Blobs:
    differences = blurred[:, 1:] - blurred[:, :-1]
    photo, level, row, column = np.nonzero(_extrema(differences))
    kept = (column < sizes[photo, 0]) & (row < sizes[photo, 1])
    kept &= _is_extreme(differences, photo, level, row, column)
    photo, level, row, column = photo[kept], level[kept], row[kept], column[kept]
    strength, place = _between_pixels(differences, photo, level, row, column)
    order = np.lexsort((-strength, photo))
    rank = np.arange(len(order)) - np.searchsorted(photo[order], photo[order])
    order, rank = order[rank < most], rank[rank < most]
    return Blobs(photo[order], rank, place[order])


def _extrema(differences: Float32) -> NDArray[np.bool_]:
    """Where a difference is larger, or smaller, than its six nearest neighbours in size and place; not at the largest size.

    Few places are, so that the other twenty neighbours need not be looked at everywhere.
    """
    is_top, is_bottom = differences > LEAST_DIFFERENCE, differences < -LEAST_DIFFERENCE
    for axis in (1, 2, 3):
        ahead = np.moveaxis(differences, axis, 0)
        top, bottom = np.moveaxis(is_top, axis, 0), np.moveaxis(is_bottom, axis, 0)
        rises = ahead[1:] > ahead[:-1]
        top[1:] &= rises
        bottom[:-1] &= rises
        np.logical_not(rises, out=rises)
        top[:-1] &= rises
        bottom[1:] &= rises
    is_top |= is_bottom
    is_top[:, -1] = False
    return is_top


def _is_extreme(differences: Float32, photo: Int64, level: Int64, row: Int64, column: Int64) -> NDArray[np.bool_]:
    """Whether none of the 26 neighbours is larger, or none smaller; beyond the edges there is nothing."""
    _, levels, height, width = differences.shape
    centre = differences[photo, level, row, column]
    size = np.abs(centre)
    is_extreme = np.ones(len(photo), np.bool_)
    for up, down, right in itertools.product((-1, 0, 1), repeat=3):
        if abs(up) + abs(down) + abs(right) > 1:
            rows, columns = np.clip(row + down, 0, height - 1), np.clip(column + right, 0, width - 1)
            near = differences[photo, np.clip(level + up, 0, levels - 1), rows, columns]
            is_extreme &= near * np.sign(centre) <= size
    return is_extreme


def _between_pixels(
    differences: Float32, photo: Int64, level: Int64, row: Int64, column: Int64
) -> tuple[Float32, Float32]:
    """Strength and place of each extremum: the top of a parabola through it and its neighbours along each axis."""
    _, levels, height, width = differences.shape

    def at(up: int, down: int, right: int) -> Float32:
        rows, columns = np.clip(row + down, 0, height - 1), np.clip(column + right, 0, width - 1)
        return np.asarray(differences[photo, np.clip(level + up, 0, levels - 1), rows, columns])

    centre = at(0, 0, 0)

    def shift(before: Float32, after: Float32) -> Float32:
        bend = before + after - 2 * centre
        top = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=np.abs(bend) > 1e-6)
        return np.asarray(np.clip(top, -0.6, 0.6), np.float32)

    x = column + shift(at(0, 0, -1), at(0, 0, 1))
    y = row + shift(at(0, -1, 0), at(0, 1, 0))
    size = SIGMAS_PX[0] * 2 ** ((level + 0.5 + shift(at(-1, 0, 0), at(1, 0, 0))) / 2)
    return np.abs(centre), np.stack([x, y, size], axis=1).astype(np.float32)


def _describe(blurred: Float32, sizes: Float32, photo: Int64, place: Float32, turn: float) -> Float32:
    """Vectors of neighbourhoods, `(keypoints, DIMENSIONS)`: their lowest frequencies, without the constant, near the middle first."""
    reach = REACH * place[:, 2, np.newaxis, np.newaxis]
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    right, down = _PLACES[np.newaxis, :], _PLACES[:, np.newaxis]
    x = place[:, 0, np.newaxis, np.newaxis] + reach * (cos * right - sin * down)
    y = place[:, 1, np.newaxis, np.newaxis] + reach * (sin * right + cos * down)
    level = np.clip(np.round(2 * np.log2(place[:, 2] / SIGMAS_PX[0])), 0, len(SIGMAS_PX) - 1).astype(np.int64)
    seen = _sample(blurred, photo * len(SIGMAS_PX) + level, x, y, sizes[photo])
    seen = (seen - (seen * _WINDOW).sum(axis=(1, 2), keepdims=True) / _WINDOW.sum()) * _WINDOW
    flat = (_ROWS @ seen @ _ROWS.T).reshape(len(seen), -1)[:, 1:] * _WEIGHTS
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3), np.float32)


def _sample(stack: Float32, layer: Int64, x: Float32, y: Float32, sizes: Float32) -> Float32:
    """Bilinear, edges repeated; x and y `(keypoints, GRID, GRID)`."""
    side = stack.shape[-1]
    x = np.clip(x, 0, sizes[:, 0, np.newaxis, np.newaxis] - 1)
    y = np.clip(y, 0, sizes[:, 1, np.newaxis, np.newaxis] - 1)
    left, top = np.minimum(x.astype(np.int32), side - 2), np.minimum(y.astype(np.int32), side - 2)
    across, along = x - left, y - top
    first = (layer * (side * side))[:, np.newaxis, np.newaxis] + top * side + left
    pixels = stack.ravel()
    upper = pixels[first] * (1 - across) + pixels[first + 1] * across
    lower = pixels[first + side] * (1 - across) + pixels[first + side + 1] * across
    return np.asarray(upper * (1 - along) + lower * along, np.float32)
