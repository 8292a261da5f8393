"""Nearest of many short unit vectors, found without comparing all with all.

Vectors are sorted into cells around centres, which are themselves sorted around fewer centres, and a vector is compared with those
of its nearest cells only. With n vectors there are some 4·√n cells, so that the work grows as n·√n with a small factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.frequencies import Float32

#: Up to this many vectors everything is compared with everything.
ONE_CELL = 4096
#: Nearest cells that a vector is looked for in.
PROBES = 3
_ROUNDS = 5
_STEP = 4096
#: Kept vectors are whole numbers of this part of 1.
_SCALE = 127

Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cells:
    """Vectors sorted by cell.

    Attributes:
        groups: `(groups, dimensions)` float32, centres of groups of cells.
        centres: `(cells, dimensions)` float32, sorted by group.
        group_starts: `(groups + 1,)`, first cell of each group.
        starts: `(cells + 1,)`, first vector of each cell.
        order: `(vectors,)` int32, numbers of vectors as they were given.
        owners: `(vectors,)` int32, the photo of each vector, in that order.
        vectors: `(vectors, dimensions)` int8, in that order.
    """

    groups: Float32
    centres: Float32
    group_starts: Int64
    starts: Int64
    order: NDArray[np.int32]
    owners: NDArray[np.int32]
    vectors: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Hits:
    """Vectors that were found near those asked for.

    Attributes:
        asked: `(hits,)` int64, number of the vector that was asked for.
        found: `(hits,)` int64, number of a vector among those kept.
        cosine: `(hits,)` float32.
    """

    asked: Int64
    found: Int64
    cosine: Float32


def rounded(vectors: Float32) -> NDArray[np.int8]:
    """Unit vectors as they are kept, one byte a number."""
    return np.round(vectors * _SCALE).astype(np.int8)


def sort_into_cells(vectors: NDArray[np.int8], owners: NDArray[np.int32], seed: int = 0) -> Cells:
    """Sort vectors into cells, to be searched by `nearest`.

    Args:
        vectors: `(vectors, dimensions)`, what `rounded` says.
        owners: `(vectors,)`, the photo of each: no vector is near another of its own photo.
        seed: Of the centres.
    """
    count = 1 if len(vectors) <= ONE_CELL else round(4 * len(vectors) ** 0.5)
    groups, centres, group_starts = _two_levels(vectors, count, np.random.default_rng(seed))
    cell = np.zeros(len(vectors), np.int32)
    for start in range(0, len(vectors), _STEP):
        some = vectors[start : start + _STEP].astype(np.float32)
        cell[start : start + _STEP] = _nearest_cells(some, groups, centres, group_starts, 1)[:, 0]
    order = np.argsort(cell, kind="stable").astype(np.int32)
    starts = np.searchsorted(cell[order], np.arange(len(centres) + 1))
    return Cells(groups, centres, group_starts, starts, order, owners[order], vectors[order])


def nearest(asked: Float32, owners: NDArray[np.int32], cells: Cells, least: float) -> Hits:
    """The nearest vector of another photo in each of the nearest cells of each vector asked for.

    Args:
        asked: `(asked, dimensions)`, of length 1.
        owners: `(asked,)`, the photo of each.
        cells: Where to look.
        least: Cosine below which nothing is near.

    Returns:
        At most `PROBES` a vector.
    """
    probes = _nearest_cells(asked, cells.groups, cells.centres, cells.group_starts, PROBES)
    order = np.argsort(probes.ravel(), kind="stable")
    bounds = np.searchsorted(probes.ravel()[order], np.arange(len(cells.centres) + 1))
    order //= probes.shape[1]
    parts = [Hits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    for cell in np.flatnonzero((np.diff(bounds) > 0) & (np.diff(cells.starts) > 0)):
        first, last = cells.starts[cell], cells.starts[cell + 1]
        members = cells.vectors[first:last].astype(np.float32).T / _SCALE
        for start in range(bounds[cell], bounds[cell + 1], _STEP):
            rows = order[start : min(start + _STEP, bounds[cell + 1])]
            cosines = asked[rows] @ members
            best = cosines.argmax(axis=1)
            own = np.flatnonzero(cells.owners[first + best] == owners[rows])
            cosines[own] = np.where(owners[rows[own], np.newaxis] == cells.owners[first:last], -1, cosines[own])
            best[own] = cosines[own].argmax(axis=1)
            cosine = cosines[np.arange(len(rows)), best]
            near = np.flatnonzero(cosine >= least)
            parts.append(Hits(rows[near], cells.order[first + best[near]].astype(np.int64), cosine[near]))
    return Hits(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("asked", "found", "cosine")))


def _two_levels(
    vectors: NDArray[np.int8], count: int, generator: np.random.Generator
) -> tuple[Float32, Float32, Int64]:
    """Centres of groups, centres of cells sorted by group, and where each group starts."""
    if count == 1:
        none = np.zeros((1, vectors.shape[1]), np.float32)
        return none, none, np.array([0, 1])
    sample = vectors[generator.choice(len(vectors), min(len(vectors), 32 * count), replace=False)].astype(np.float32)
    sample /= np.maximum(np.linalg.norm(sample, axis=1, keepdims=True), 1)
    groups = _centres(sample, round(count**0.5))
    group = _nearest_centres(sample, groups, 1)[:, 0]
    shares = np.maximum(1, np.bincount(group, minlength=len(groups)) * count // len(sample))
    members = [sample[group == number] for number in range(len(groups))]
    centres = [_centres(some, int(share)) for some, share in zip(members, shares, strict=True)]
    return groups, np.concatenate(centres), np.cumsum([0, *map(len, centres)])


def _centres(sample: Float32, count: int) -> Float32:
    """Spherical k-means. Source: Dhillon and Modha 2001, Machine Learning 42."""
    centres = sample[:count].copy() if len(sample) else np.zeros((1, sample.shape[1]), np.float32)
    for _ in range(_ROUNDS):
        cell = _nearest_centres(sample, centres, 1)[:, 0]
        sums = np.zeros_like(centres)
        np.add.at(sums, cell, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), centres)
    return centres


def _nearest_cells(vectors: Float32, groups: Float32, centres: Float32, group_starts: Int64, probes: int) -> Int64:
    """Numbers of the nearest cells within each vector's nearest group, `(vectors, probes)`, the last repeated where there are fewer."""
    group = _nearest_centres(vectors, groups, 1)[:, 0]
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(len(groups) + 1))
    cells = np.zeros((len(vectors), min(probes, len(centres))), np.int64)
    for number in np.flatnonzero(np.diff(bounds)):
        rows, first = order[bounds[number] : bounds[number + 1]], group_starts[number]
        chosen = first + _nearest_centres(vectors[rows], centres[first : group_starts[number + 1]], cells.shape[1])
        cells[rows, : chosen.shape[1]] = chosen
        cells[rows, chosen.shape[1] :] = chosen[:, -1:]
    return cells


def _nearest_centres(vectors: Float32, centres: Float32, count: int) -> Int64:
    """Numbers of each vector's nearest centres, `(vectors, count)`, in no order; fewer where there are fewer."""
    count = min(count, len(centres))
    found = np.zeros((len(vectors), count), np.int64)
    for start in range(0, len(vectors), _STEP):
        cosines = vectors[start : start + _STEP] @ centres.T
        if count == 1:
            found[start : start + _STEP, 0] = cosines.argmax(axis=1)
        else:
            found[start : start + _STEP] = np.argpartition(cosines, len(centres) - count, axis=1)[:, -count:]
    return found
