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
#: Spread, in grey levels, up to which a place is plain, and from which on it clearly is not.
_ONE_LEVEL, _MANY_LEVELS = 4, 12
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
class Pictures:
    """Some photos as they are compared.

    Attributes:
        soft: `(photos, side, side)` float32, blurred so that every second pixel tells of its neighbours.
        spread: `(photos, side, side)` float32, grey levels between the darkest and the brightest pixel near each, two to each side.
    """

    soft: Float32
    spread: Float32

    @classmethod
    def of(cls, greys: NDArray[np.uint8]) -> Pictures:
        """From `(photos, side, side)` uint8."""
        return cls(_soft(greys), _spread(greys))


@dataclass(frozen=True, slots=True)
class Places:
    """Where the second photo of each pair may lie in the first.

    Attributes:
        first: `(pairs,)` int64, numbers of pictures.
        second: `(pairs,)` int64.
        is_inverted: `(pairs,)` bool, bright is compared with dark.
        maps: `(pairs, 2, 3)` float32, places in the second picture to places in the first, in parts of their sides.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    is_inverted: NDArray[np.bool_]
    maps: Float32

    def taken(self, some: NDArray[np.integer]) -> Places:
        """Some of the pairs."""
        return Places(self.first[some], self.second[some], self.is_inverted[some], self.maps[some])

    def fitted(self, maps: Float32) -> Places:
        """The same pairs at other places."""
        return Places(self.first, self.second, self.is_inverted, maps)


@dataclass(frozen=True, slots=True)
class Fits:
    """How well second pictures show what is in first ones.

    Attributes:
        maps: `(pairs, 2, 3)` float32, where they lie now.
        correlation: `(pairs, blocks)` float32, of each block of the overlap; NaN where not both pictures have texture.
        levels: `(pairs, 2, blocks)` float32, brightness of the first, then of the second picture, an inverted one's inverted.
        uncovered: `(pairs,)` float32, share of the overlap where not one picture alone is plain.
    """

    maps: Float32
    correlation: Float32
    levels: Float32
    uncovered: Float32

    def taken(self, some: NDArray[np.integer]) -> Fits:
        """Of some of the pairs."""
        return Fits(self.maps[some], self.correlation[some], self.levels[some], self.uncovered[some])

    @property
    def agrees(self) -> NDArray[np.bool_]:
        """`(pairs, blocks)`: where both pictures show the same pattern."""
        return self.correlation > AGREES

    @property
    def textured(self) -> NDArray[np.int64]:
        """`(pairs,)`: number of blocks with texture in both pictures."""
        return np.asarray((~np.isnan(self.correlation)).sum(axis=1))

    @property
    def likeness(self) -> NDArray[np.float64]:
        """`(pairs,)`: share of them that agree."""
        return np.asarray(self.agrees.sum(axis=1) / np.maximum(self.textured, 1))


def first_look(pictures: Pictures, places: Places) -> Float32:
    """Correlation of what both photos of each pair show where the second is said to lie, `(pairs,)`, brightness and contrast free."""
    over = _Grid.over(places.maps, pictures.soft.shape[-1] // 2)
    seen, inside = _through(pictures.soft, places.first, places.maps, over)
    inside *= _uncovered(
        _through(pictures.spread, places.first, places.maps, over)[0],
        _sample(pictures.spread, places.second, over.x, over.y),
    )
    wanted = _wanted(pictures.soft, places, over)
    one, other = (_evened(shown, inside)[0].reshape(len(seen), seen.shape[1] ** 2) for shown in (seen, wanted))
    squares = (one * one).sum(axis=1) * (other * other).sum(axis=1)
    return np.asarray((one * other).sum(axis=1) / np.sqrt(squares + 1e-6), np.float32)


def fit_pairs(pictures: Pictures, places: Places, steps: int) -> Fits:
    """Fit where each second picture lies in its first one, by Gauss-Newton steps on the six numbers of an affine map.

    Brightness and contrast are free, everywhere for itself; what differs much, such as a watermark or a covered corner, counts little.

    Args:
        pictures: Of the photos. The overlap is compared on a grid of half as many lines, a multiple of `BLOCKS`.
        places: Where to begin.
        steps: Of the fit.

    Source: Lucas and Kanade 1981, "An iterative image registration technique", IJCAI; Baker and Matthews 2004, IJCV 56(3);
    weights of Geman and McClure 1987.
    """
    maps = places.maps.astype(np.float32)
    over = _Grid.over(maps, pictures.soft.shape[-1] // 2)
    wanted = _wanted(pictures.soft, places, over)
    wanted_spread = _sample(pictures.spread, places.second, over.x, over.y)
    kept = _uncovered(_through(pictures.spread, places.first, maps, over)[0], wanted_spread)
    for _ in range(steps):
        seen, inside = _through(pictures.soft, places.first, maps, over)
        inside *= kept
        step = _step(_evened(seen, inside)[0], _evened(wanted, inside)[0], inside)
        maps = _moved(maps, step, over.low, over.size)
    seen, inside = _through(pictures.soft, places.first, maps, over)
    kept = inside * _uncovered(_through(pictures.spread, places.first, maps, over)[0], wanted_spread)
    area = np.maximum(_summed(kept), 1)
    levels = np.stack([_summed(shown * kept) / area for shown in (seen, wanted)], axis=1).astype(np.float32)
    correlation = _correlation(_evened(seen, kept), _evened(wanted, kept), kept)
    return Fits(maps, correlation, levels, _share(kept, inside))


def overlaid(pictures: Pictures, places: Places) -> tuple[Float32, Float32, Float32]:
    """What both photos of each pair show where the second lies in the first.

    Returns:
        Three of `(pairs, grid, grid)`: the first; the second, an inverted one inverted again; 1 where that is inside the first, else 0.
    """
    over = _Grid.over(places.maps, pictures.soft.shape[-1] // 2)
    seen, inside = _through(pictures.soft, places.first, places.maps, over)
    return seen, _wanted(pictures.soft, places, over), inside


@dataclass(frozen=True, slots=True)
class _Grid:
    """Places in second pictures, a grid over each overlap: `low`, `size` `(pairs, 2)`; `x`, `y` `(pairs, grid, grid)`."""

    low: Float32
    size: Float32
    x: Float32
    y: Float32

    @classmethod
    def over(cls, maps: Float32, grid: int) -> _Grid:
        low, high = overlap(maps)
        size = np.maximum(high - low, 1e-3)
        places = ((np.arange(grid) + 0.5) / grid).astype(np.float32)
        across = low[:, 0, np.newaxis, np.newaxis] + size[:, 0, np.newaxis, np.newaxis] * places
        along = low[:, 1, np.newaxis, np.newaxis] + size[:, 1, np.newaxis, np.newaxis] * places[:, np.newaxis]
        return cls(low, size, *np.broadcast_arrays(across, along))


def _wanted(soft: Float32, places: Places, over: _Grid) -> Float32:
    wanted = _sample(soft, places.second, over.x, over.y)
    return np.where(places.is_inverted[:, np.newaxis, np.newaxis], 255 - wanted, wanted)


def _spread(pictures: NDArray[np.uint8]) -> Float32:
    """Grey levels between the darkest and the brightest of a pixel and its neighbours, two to each side."""
    least, most = pictures, pictures
    for axis in (1, 2, 1, 2):
        ahead = np.moveaxis(least, axis, 0), np.moveaxis(most, axis, 0)
        low, high = ahead[0].copy(), ahead[1].copy()
        np.minimum(low[1:], ahead[0][:-1], out=low[1:])
        np.minimum(low[:-1], ahead[0][1:], out=low[:-1])
        np.maximum(high[1:], ahead[1][:-1], out=high[1:])
        np.maximum(high[:-1], ahead[1][1:], out=high[:-1])
        least, most = np.moveaxis(low, 0, axis), np.moveaxis(high, 0, axis)
    return (most - least).astype(np.float32)


def _uncovered(spread: Float32, wanted: Float32) -> Float32:
    """0 where one picture is plain and the other clearly is not, and near there: something lies on the photo. Else 1."""
    covered = (np.minimum(spread, wanted) <= _ONE_LEVEL) & (np.maximum(spread, wanted) >= _MANY_LEVELS)
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


def _through(pictures: Float32, which: NDArray[np.int64], maps: Float32, over: _Grid) -> tuple[Float32, Float32]:
    """The first pictures at the places of the second's grid; and 1 where that is inside, 0 elsewhere."""
    parts = maps[:, :, :, np.newaxis, np.newaxis]
    x = parts[:, 0, 0] * over.x + parts[:, 0, 1] * over.y + parts[:, 0, 2]
    y = parts[:, 1, 0] * over.x + parts[:, 1, 1] * over.y + parts[:, 1, 2]
    edge = 0.3 / pictures.shape[-1]
    inside = (x > edge) & (x < 1 - edge) & (y > edge) & (y < 1 - edge)
    return _sample(pictures, which, x, y), inside.astype(np.float32)


def _sample(pictures: Float32, which: NDArray[np.int64], x: Float32, y: Float32) -> Float32:
    """Bilinear, edges repeated; x and y `(pairs, grid, grid)` in parts of the sides."""
    side = pictures.shape[-1]
    x, y = np.clip(x * side - 0.5, 0, side - 1), np.clip(y * side - 0.5, 0, side - 1)
    left, top = np.minimum(x.astype(np.int32), side - 2), np.minimum(y.astype(np.int32), side - 2)
    across, along = x - left, y - top
    first = which.astype(np.int32)[:, np.newaxis, np.newaxis] * (side * side) + top * side + left
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


def detail_of(seen: Float32, inside: Float32) -> Float32:
    """Pictures without local brightness, `(pairs, grid, grid)`; 0 where `inside` is."""
    around = _local(seen.shape[-1])
    covered = np.maximum(around @ inside @ around, 1e-2)
    return np.asarray((seen - around @ (seen * inside) @ around / covered) * inside, np.float32)


def _evened(seen: Float32, inside: Float32) -> tuple[Float32, Float32]:
    """Without local brightness and in units of local contrast; and that contrast squared."""
    around, detail = _local(seen.shape[-1]), detail_of(seen, inside)
    energy = around @ (detail * detail) @ around / np.maximum(around @ inside @ around, 1e-2)
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


def _correlation(one: tuple[Float32, Float32], other: tuple[Float32, Float32], inside: Float32) -> Float32:
    """Of each block, `(pairs, BLOCKS²)`; NaN where not both pictures have texture."""
    product, square, other_square = _summed(one[0] * other[0]), _summed(one[0] ** 2), _summed(other[0] ** 2)
    area = _summed(inside)
    correlation = product / np.sqrt(np.maximum(square * other_square, 1e-6))
    has = [_summed(energy * inside) > TEXTURE**2 * np.maximum(area, 1) for energy in (one[1], other[1])]
    textured = (area > _INSIDE * (inside.shape[-1] // BLOCKS) ** 2) & has[0] & has[1]
    return np.asarray(np.where(textured, correlation, np.nan), np.float32)


def _summed(values: Float32) -> Float32:
    """By block, `(pairs, BLOCKS²)`."""
    pairs, grid, _ = values.shape
    columns = values.reshape(pairs, grid, BLOCKS, grid // BLOCKS).sum(axis=3)
    return np.asarray(columns.reshape(pairs, BLOCKS, grid // BLOCKS, BLOCKS).sum(axis=2).reshape(pairs, BLOCKS**2))
