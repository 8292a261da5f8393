"""Keypoints of small grey pictures: blobs of any size, each with its neighbourhood as a short unit vector.

A part of a photo that comes back in another file - cropped, shrunk into a collage, framed, beside a watermark - brings its blobs
along, and each says where the part lies and how large it is.

Source: Lowe 2004, "Distinctive image features from scale-invariant keypoints", IJCV 60(2), sections 3 and 4; neighbourhoods are
upright and told by their lowest frequencies.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.frequencies import Float32, cosine_rows, signs, weights
from finetunekit.data.measure import SIDE_PX

#: Standard deviations of the blurs whose differences are searched, in pixels, half an octave apart.
SIGMAS_PX = tuple(float(0.8 * 2 ** (step / 2)) for step in range(9))
#: Least difference of two blurs, in grey levels, of a blob.
LEAST_DIFFERENCE = 0.4
#: A neighbourhood reaches this many standard deviations to each side, and is sampled on a grid of this many lines.
REACH = 5.0
GRID = 12
COSINES = 5
#: Length of a vector.
DIMENSIONS = COSINES * COSINES - 1
#: Shorter sides are drawn to this length at least, so that a neighbourhood fits in.
_LEAST_SIDE_PX = 16
_BLUR_BEFORE_PX = 0.5
_BLOCK = 128

Int64 = NDArray[np.int64]

_PLACES = ((np.arange(GRID) + 0.5) / GRID * 2 - 1).astype(np.float32)
_WINDOW = np.exp(-(_PLACES[:, np.newaxis] ** 2) - _PLACES**2).astype(np.float32)
_ROWS = cosine_rows(0.0, 1.0, GRID, COSINES)
_WEIGHTS = weights(COSINES)
#: Signs that mirror a vector.
MIRROR = signs(COSINES)


@dataclass(frozen=True, slots=True)
class Keypoints:
    """Of some pictures, sorted by picture, the strongest of each first.

    Attributes:
        photo: `(keypoints,)` int64, position of the picture.
        rank: `(keypoints,)` int64, 0 for the strongest of a picture.
        place: `(keypoints, 3)` float32: x, y and standard deviation in pixels of the picture in its own proportions.
        vectors: `(turns, keypoints, DIMENSIONS)` float32, of length 1: the neighbourhood turned by each angle asked for.
    """

    photo: Int64
    rank: Int64
    place: Float32
    vectors: Float32


def proportions(aspect: NDArray[np.float64]) -> Float32:
    """(width, height) of pictures in their own proportions, the longer side `SIDE_PX` long.

    Args:
        aspect: `(photos,)`, width by height.

    Returns:
        `(photos, 2)` float32, whole numbers.
    """
    sides = np.stack([np.minimum(1.0, aspect), np.minimum(1.0, 1 / aspect)], axis=1)
    return np.maximum(_LEAST_SIDE_PX, np.round(sides * SIDE_PX)).astype(np.float32)


def find_keypoints(
    grey: NDArray[np.uint8], sizes: Float32, *, most: int, turns: tuple[float, ...] = (0.0,), turned: int = 0
) -> Keypoints:
    """The strongest blobs of each picture.

    Args:
        grey: `(photos, SIDE_PX, SIDE_PX)` uint8, photos stretched to squares.
        sizes: `(photos, 2)`, what `proportions` says.
        most: Keypoints of one picture, at most.
        turns: Angles in radians that neighbourhoods are turned by.
        turned: Only this many of a picture, the strongest, are turned by other angles than the first; the others' vectors are 0.

    Source: Lowe 2004; bright and dark blobs are largest and smallest among the 26 neighbours in place and size.
    """
    parts = []
    for start in range(0, len(grey), _BLOCK):
        some = sizes[start : start + _BLOCK]
        blurred = _blurred(_in_proportion(grey[start : start + _BLOCK], some))
        photo, rank, place = _blobs(blurred, some, most)
        vectors = np.zeros((len(turns), len(photo), DIMENSIONS), np.float32)
        for number, turn in enumerate(turns):
            chosen = rank < (turned if number else most)
            vectors[number, chosen] = _describe(blurred, some, photo[chosen], place[chosen], turn)
        parts.append(Keypoints(photo + start, rank, place, vectors))
    return Keypoints(
        np.concatenate([part.photo for part in parts]),
        np.concatenate([part.rank for part in parts]),
        np.concatenate([part.place for part in parts]),
        np.concatenate([part.vectors for part in parts], axis=1),
    )


@functools.cache
def _shrinking(side: int) -> Float32:
    """What takes `SIDE_PX` pixels to `side` of them by area; the last is repeated up to `SIDE_PX` rows."""
    edges = np.linspace(0, SIDE_PX, side + 1)
    starts, ends = np.arange(SIDE_PX), np.arange(SIDE_PX) + 1
    shares = np.clip(np.minimum(edges[1:, np.newaxis], ends) - np.maximum(edges[:-1, np.newaxis], starts), 0, None)
    shares /= shares.sum(axis=1, keepdims=True)
    return np.concatenate([shares, np.repeat(shares[-1:], SIDE_PX - side, axis=0)]).astype(np.float32)


def _in_proportion(grey: NDArray[np.uint8], sizes: Float32) -> Float32:
    columns = np.stack([_shrinking(int(width)) for width in sizes[:, 0]])
    rows = np.stack([_shrinking(int(height)) for height in sizes[:, 1]])
    pictures: Float32 = rows @ grey.astype(np.float32) @ columns.transpose(0, 2, 1)
    return pictures


@functools.cache
def _blur(sigma_px: float) -> Float32:
    """A Gaussian along one axis, edges repeated, `(SIDE_PX, SIDE_PX)`."""
    steps = np.arange(-SIDE_PX, SIDE_PX + 1)
    kernel = np.exp(-(steps**2) / (2 * sigma_px**2))
    matrix = np.zeros((SIDE_PX, SIDE_PX))
    for line in range(SIDE_PX):
        np.add.at(matrix[line], np.clip(line + steps, 0, SIDE_PX - 1), kernel / kernel.sum())
    return matrix.astype(np.float32)


def _blurred(pictures: Float32) -> Float32:
    """`(photos, SIDE_PX, SIDE_PX)` → `(photos, SIGMAS_PX, SIDE_PX, SIDE_PX)`."""
    blurs = [_blur(float(np.sqrt(sigma**2 - _BLUR_BEFORE_PX**2))) for sigma in SIGMAS_PX]
    return np.stack([blur @ pictures @ blur.T for blur in blurs], axis=1)


def _blobs(blurred: Float32, sizes: Float32, most: int) -> tuple[Int64, Int64, Float32]:
    """Photo, rank and place of extrema of the differences of blurs."""
    differences = blurred[:, 1:] - blurred[:, :-1]
    is_blob = (differences >= _greatest(differences)) & (differences > LEAST_DIFFERENCE)
    is_blob |= (differences <= -_greatest(-differences)) & (differences < -LEAST_DIFFERENCE)
    is_blob[:, -1] = False
    photo, level, row, column = np.nonzero(is_blob)
    inside = (column < sizes[photo, 0]) & (row < sizes[photo, 1])
    photo, level, row, column = photo[inside], level[inside], row[inside], column[inside]
    strength, place = _between_pixels(differences, photo, level, row, column)
    order = np.lexsort((-strength, photo))
    rank = np.arange(len(order)) - np.searchsorted(photo[order], photo[order])
    order, rank = order[rank < most], rank[rank < most]
    return photo[order], rank, place[order]


def _greatest(values: Float32) -> Float32:
    """Of each place and its 26 neighbours; beyond the edges there is nothing."""
    for axis in (1, 2, 3):
        ahead = np.moveaxis(values, axis, 0)
        most = ahead.copy()
        np.maximum(most[1:], ahead[:-1], out=most[1:])
        np.maximum(most[:-1], ahead[1:], out=most[:-1])
        values = np.moveaxis(most, 0, axis)
    return values


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
