"""Whether one small grey picture shows another one or a part of it: the place is fitted, then compared block by block."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.frequencies import Float32

#: How far a step goes at most, in parts of the overlap.
_STRIDE = 0.12
#: Differences of brightness, in units of the local contrast, that count half in the fit.
_ROBUST = 0.6
#: Local brightness and contrast are taken over this many lines of the grid.
_LOCAL = 2.5
#: Grey levels that are added to the local contrast, so that plain areas stay plain.
_NOISE = 4.0
#: Grey levels among which a pixel and its neighbours are plain.
_ONE_LEVEL = 4
#: Blocks along each side, each compared for itself.
BLOCKS = 8
#: A block has texture where the local contrast is at least this, in grey levels, and lies in both pictures for this share of its area.
TEXTURE = 5.0
_INSIDE = 0.5
#: One photo's side in the other, at least; its sides' proportion, at most, by which it is flatter; and its share in the other, at least.
SMALLEST = 0.38
FLATTEST = 2.6
LEAST_OVERLAP = 0.5
#: Correlation of a block that agrees.
AGREES = 0.75


@dataclass(frozen=True, slots=True)
class Fits:
    """How well second pictures show what is in first ones.

    Attributes:
        maps: `(pairs, 2, 3)` float32, places in the second picture to places in the first, in parts of their sides.
        agreeing: `(pairs,)` int64, blocks of the overlap with texture in both pictures that agree.
        textured: `(pairs,)` int64, blocks of the overlap with texture in both pictures.
        uncovered: `(pairs,)` float32, share of the overlap where not one picture alone is of one level.
    """

    maps: Float32
    agreeing: NDArray[np.int64]
    textured: NDArray[np.int64]
    uncovered: Float32


def fit_pairs(first: NDArray[np.uint8], second: NDArray[np.uint8], maps: Float32, *, grid: int, steps: int) -> Fits:
    """Fit where each second picture lies in its first one, by Gauss-Newton steps on the six numbers of an affine map.

    Brightness and contrast are free, everywhere for itself; what differs much, such as a watermark or a covered corner, counts little.

    Args:
        first: `(pairs, side, side)` uint8.
        second: `(pairs, side, side)` uint8.
        maps: Where to begin.
        grid: Lines of the grid that the overlap is compared on; a multiple of `BLOCKS`, half of the pictures' side.
        steps: Of the fit.

    Source: Lucas and Kanade 1981, "An iterative image registration technique", IJCAI; Baker and Matthews 2004, IJCV 56(3);
    weights of Geman and McClure 1987.
    """
    source, target = _soft(first), _soft(second)
    maps = maps.astype(np.float32)
    low, high = overlap(maps)
    size = np.maximum(high - low, 1e-3)
    places = ((np.arange(grid) + 0.5) / grid).astype(np.float32)
    across = low[:, 0, np.newaxis, np.newaxis] + size[:, 0, np.newaxis, np.newaxis] * places
    along = low[:, 1, np.newaxis, np.newaxis] + size[:, 1, np.newaxis, np.newaxis] * places[:, np.newaxis]
    wanted = _sample(target, *np.broadcast_arrays(across, along))
    plain, wanted_plain = _plain(first), _sample(_plain(second), *np.broadcast_arrays(across, along))
    kept = _uncovered(_through(plain, maps, across, along)[0], wanted_plain)
    for _ in range(steps):
        seen, inside = _through(source, maps, across, along)
        inside *= kept
        step = _step(_evened(seen, inside)[0], _evened(wanted, inside)[0], inside)
        maps = _moved(maps, step, low, size)
    seen, inside = _through(source, maps, across, along)
    kept = inside * _uncovered(_through(plain, maps, across, along)[0], wanted_plain)
    return Fits(maps, *_compare(_evened(seen, kept), _evened(wanted, kept), kept), _share(kept, inside))


def _plain(pictures: NDArray[np.uint8]) -> Float32:
    """1 where all neighbours of a pixel, two to each side, are of one level, else 0."""
    least, most = pictures, pictures
    for axis in (1, 2, 1, 2):
        ahead = np.moveaxis(least, axis, 0), np.moveaxis(most, axis, 0)
        low, high = ahead[0].copy(), ahead[1].copy()
        np.minimum(low[1:], ahead[0][:-1], out=low[1:])
        np.minimum(low[:-1], ahead[0][1:], out=low[:-1])
        np.maximum(high[1:], ahead[1][:-1], out=high[1:])
        np.maximum(high[:-1], ahead[1][1:], out=high[:-1])
        least, most = np.moveaxis(low, 0, axis), np.moveaxis(high, 0, axis)
    return (most - least <= _ONE_LEVEL).astype(np.float32)


def _uncovered(plain: Float32, wanted_plain: Float32) -> Float32:
    """0 where one picture is plain and the other is not, and near there: something lies on the photo. Else 1."""
    covered = np.round(plain) != np.round(wanted_plain)
    for axis in (1, 2, 1, 2):
        ahead = np.moveaxis(covered, axis, 0)
        wider = ahead.copy()
        wider[1:] |= ahead[:-1]
        wider[:-1] |= ahead[1:]
        covered = np.moveaxis(wider, 0, axis)
    uncovered: Float32 = (~covered).astype(np.float32)
    return uncovered


def _share(part: Float32, whole: Float32) -> Float32:
    return np.asarray(part.sum(axis=(1, 2)) / np.maximum(whole.sum(axis=(1, 2)), 1), np.float32)


def overlap(maps: Float32) -> tuple[Float32, Float32]:
    """The smallest upright box in the second picture that holds what of the first lies in it: least and greatest (x, y)."""
    across, down = maps[:, 0, :2], maps[:, 1, :2]
    area = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]
    area = np.where(np.abs(area) > 1e-6, area, 1e-6)[:, np.newaxis, np.newaxis]
    inverse = np.stack([down[:, 1], -across[:, 1], -down[:, 0], across[:, 0]], axis=1).reshape(-1, 2, 2) / area
    back = inverse @ (np.array([[0, 1, 0, 1], [0, 0, 1, 1]], np.float32) - maps[:, :, 2:])
    return np.clip(back.min(axis=2), 0, 1), np.clip(back.max(axis=2), 0, 1)


def is_sensible(maps: Float32) -> NDArray[np.bool_]:
    """Whether one photo may be a part of the other by its map: neither much smaller nor flatter, and half of one in the other.

    A tiny, smooth part of one photo can be laid on any other.
    """
    low, high = overlap(maps)
    size = np.abs(np.linalg.det(maps[:, :, :2]))
    covered = (high - low).prod(axis=1)
    squares = (maps[:, :, :2] ** 2).sum(axis=(1, 2))
    is_even = squares <= (FLATTEST + 1 / FLATTEST) * size
    is_large = (size > SMALLEST**2) & (size < 1 / SMALLEST**2)
    return np.asarray(is_even & is_large & (np.maximum(covered, np.minimum(covered * size, 1)) > LEAST_OVERLAP))


def _soft(pictures: NDArray[np.uint8]) -> Float32:
    """Blurred twice by (1 2 1)/4 along both axes, so that every second pixel tells of its neighbours."""
    soft: Float32 = pictures.astype(np.float32)
    for axis in (1, 2, 1, 2):
        padded = np.pad(soft, [(0, 0), *((int(axis == other), int(axis == other)) for other in (1, 2))], mode="edge")
        ahead = np.moveaxis(padded, axis, 0)
        soft = np.moveaxis((ahead[:-2] + 2 * ahead[1:-1] + ahead[2:]) / 4, 0, axis).astype(np.float32)
    return np.ascontiguousarray(soft, np.float32)


def _through(source: Float32, maps: Float32, across: Float32, along: Float32) -> tuple[Float32, Float32]:
    """The first picture at the places of the second's grid; and 1 where that is inside, 0 elsewhere."""
    parts = maps[:, :, :, np.newaxis, np.newaxis]
    x = parts[:, 0, 0] * across + parts[:, 0, 1] * along + parts[:, 0, 2]
    y = parts[:, 1, 0] * across + parts[:, 1, 1] * along + parts[:, 1, 2]
    edge = 0.3 / source.shape[-1]
    inside = (x > edge) & (x < 1 - edge) & (y > edge) & (y < 1 - edge)
    return _sample(source, x, y), inside.astype(np.float32)


def _sample(pictures: Float32, x: Float32, y: Float32) -> Float32:
    """Bilinear, edges repeated; x and y `(pairs, grid, grid)` in parts of the sides."""
    side = pictures.shape[-1]
    x, y = np.clip(x * side - 0.5, 0, side - 1), np.clip(y * side - 0.5, 0, side - 1)
    left, top = np.minimum(x.astype(np.int32), side - 2), np.minimum(y.astype(np.int32), side - 2)
    across, along = x - left, y - top
    first = np.arange(len(pictures), dtype=np.int32)[:, np.newaxis, np.newaxis] * (side * side) + top * side + left
    pixels = pictures.ravel()
    upper = pixels[first] + (pixels[first + 1] - pixels[first]) * across
    first += side
    lower = pixels[first] + (pixels[first + 1] - pixels[first]) * across
    return np.asarray(upper + (lower - upper) * along, np.float32)


@functools.cache
def _local(grid: int) -> Float32:
    """A Gaussian along one axis of the grid, nothing beyond its edges."""
    steps = np.subtract.outer(np.arange(grid), np.arange(grid))
    weights = np.exp(-(steps**2) / (2 * _LOCAL**2))
    return np.asarray(weights / weights[grid // 2].sum(), np.float32)


def _evened(seen: Float32, inside: Float32) -> tuple[Float32, Float32]:
    """Without local brightness and in units of local contrast; and that contrast squared."""
    around = _local(seen.shape[-1])
    covered = np.maximum(around @ inside @ around, 1e-2)
    detail = (seen - around @ (seen * inside) @ around / covered) * inside
    energy = around @ (detail * detail) @ around / covered
    return np.asarray(detail / np.sqrt(energy + _NOISE**2), np.float32), np.asarray(energy, np.float32)


def _step(seen: Float32, wanted: Float32, inside: Float32) -> Float32:
    """What to add to (shift, stretch, slant) across, then along, in parts of the overlap, `(pairs, 2, 3)`."""
    pairs, grid, _ = seen.shape
    left = wanted - seen
    weight = inside / (1 + (left / _ROBUST) ** 2) ** 2
    places = ((np.arange(grid) + 0.5) / grid - 0.5).astype(np.float32)
    along, across = np.gradient(seen, axis=(1, 2))
    slopes = [axis * place for axis in (across, along) for place in (1, places, places[:, np.newaxis])]
    matrix = np.stack(slopes, axis=-1).reshape(pairs, grid * grid, 6) * grid
    weighted = (matrix * weight.reshape(pairs, grid * grid, 1)).transpose(0, 2, 1)
    normal = weighted @ matrix
    diagonal = np.arange(6)
    normal[:, diagonal, diagonal] = normal[:, diagonal, diagonal] * 1.001 + 0.01 * grid
    step = np.linalg.solve(normal, weighted @ left.reshape(pairs, grid * grid, 1))
    return np.asarray(np.clip(step, -_STRIDE, _STRIDE).reshape(pairs, 2, 3), np.float32)


def _moved(maps: Float32, step: Float32, low: Float32, size: Float32) -> Float32:
    """The maps after a step that is told in parts of the overlap, from its middle."""
    inner = np.zeros((len(maps), 2, 2), np.float32)
    inner[:, 0, 0], inner[:, 1, 1] = 1 + step[:, 0, 1], 1 + step[:, 1, 2]
    inner[:, 0, 1] = step[:, 0, 2] * size[:, 0] / size[:, 1]
    inner[:, 1, 0] = step[:, 1, 1] * size[:, 1] / size[:, 0]
    middle = low + size / 2
    shift = middle + step[:, :, 0] * size - (inner @ middle[:, :, np.newaxis])[:, :, 0]
    moved = np.empty_like(maps)
    moved[:, :, :2] = maps[:, :, :2] @ inner
    moved[:, :, 2] = (maps[:, :, :2] @ shift[:, :, np.newaxis])[:, :, 0] + maps[:, :, 2]
    return moved


def _compare(
    one: tuple[Float32, Float32], other: tuple[Float32, Float32], inside: Float32
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of blocks: agreeing, and with texture in both."""
    product, square, other_square = _summed(one[0] * other[0]), _summed(one[0] ** 2), _summed(other[0] ** 2)
    area = _summed(inside)
    correlation = product / np.sqrt(np.maximum(square * other_square, 1e-6))
    has = [_summed(energy * inside) > TEXTURE**2 * np.maximum(area, 1) for energy in (one[1], other[1])]
    textured = (area > _INSIDE * (inside.shape[-1] // BLOCKS) ** 2) & has[0] & has[1]
    agreeing = textured & (correlation > AGREES)
    return agreeing.sum(axis=(1, 2)), textured.sum(axis=(1, 2))


def _summed(values: Float32) -> Float32:
    """By block, `(pairs, BLOCKS, BLOCKS)`."""
    pairs, grid, _ = values.shape
    return np.asarray(values.reshape(pairs, BLOCKS, grid // BLOCKS, BLOCKS, grid // BLOCKS).sum(axis=(2, 4)))
