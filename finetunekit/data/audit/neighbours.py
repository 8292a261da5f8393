"""Which photos could be windows of which: pairs of near vectors, found without comparing all with all.

Vectors are sorted into cells around centres; a window is compared with the photos of its nearest cells only. With
n photos there are about 4·√n cells of √n/4 photos, so that the work grows as n·√n and stays a small part of reading them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.window_vectors import DIMENSIONS, Float32, whole_vectors, window_vectors

#: Up to this many photos everything is compared with everything.
ONE_CELL = 2048
#: Nearest cells that a window is looked for in.
PROBES = 3
#: Least cosine of a pair that is worth a closer look; see docs/audit.md for how planted copies lie above it.
NEAR = 0.8
#: A photo's candidates beyond this many, the nearest first, are left out, so that many alike photos cost no square.
MOST_CANDIDATES = 16
_BLOCK = 1024
_ROUNDS = 5

Int64 = NDArray[np.int64]
Greys = Callable[[Int64], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs worth a closer look: photo `part` may be the window `window` of photo `whole`.

    Attributes:
        whole: `(pairs,)` int64, positions of photos.
        part: `(pairs,)` int64.
        is_mirrored: `(pairs,)` bool.
        window: `(pairs,)` int64, position in `WINDOWS`.
        cosine: `(pairs,)` float32.
    """

    whole: Int64
    part: Int64
    is_mirrored: NDArray[np.bool_]
    window: Int64
    cosine: Float32


@dataclass(frozen=True, slots=True)
class _Cells:
    centres: Float32  # (cells, DIMENSIONS)
    order: Int64  # photos sorted by cell
    starts: Int64  # (cells + 1,)
    sorted_vectors: Float32  # vectors in that order


def find_candidates(
    photos: int, greys: Greys, *, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Candidates:
    """Every pair of photos of which one may be a copy, a mirror image or a window of the other.

    Args:
        photos: How many.
        greys: Positions `(n,)` → pictures `(n, SIDE_PX, SIDE_PX)` uint8; asked for a block at a time.
        seed: Of the centres.
        progress: Called with (photos done, photos in all).

    Returns:
        At most `MOST_CANDIDATES` pairs a photo, in order of `whole`. Memory: 0.5 KB a photo and a block's working space.
    """
    vectors = np.zeros((photos, DIMENSIONS), np.float32)
    for block in _blocks(photos):
        vectors[block] = whole_vectors(greys(block))
    cells = _sort_into_cells(vectors, seed)
    found = []
    for block in _blocks(photos):
        found.append(_search(window_vectors(greys(block)), block, cells))
        if progress is not None:
            progress(int(block[-1]) + 1, photos)
    return _joined(found)


def _blocks(photos: int) -> Iterator[Int64]:
    for start in range(0, photos, _BLOCK):
        yield np.arange(start, min(start + _BLOCK, photos))


def _sort_into_cells(vectors: Float32, seed: int) -> _Cells:
    photos = len(vectors)
    count = 1 if photos <= ONE_CELL else round(4 * photos**0.5)
    centres = _centres(vectors, count, np.random.default_rng(seed))
    cell = _nearest(vectors, centres, 1)[:, 0]
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(count + 1))
    return _Cells(centres, order, starts, vectors[order])


def _centres(vectors: Float32, count: int, generator: np.random.Generator) -> Float32:
    """Spherical k-means on a sample. Source: Dhillon and Modha 2001, Machine Learning 42."""
    if count == 1:
        return np.zeros((1, DIMENSIONS), np.float32)
    sample = vectors[generator.permutation(len(vectors))[: 32 * count]]
    centres = sample[:count].copy()
    for _ in range(_ROUNDS):
        cell = _nearest(sample, centres, 1)[:, 0]
        sums = np.zeros_like(centres)
        np.add.at(sums, cell, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), centres)
    return centres


def _nearest(vectors: Float32, centres: Float32, probes: int) -> Int64:
    """Positions of each vector's nearest centres, `(vectors, probes)`, in no order."""
    probes = min(probes, len(centres))
    nearest = np.zeros((len(vectors), probes), np.int64)
    for start in range(0, len(vectors), 4096):
        cosines = vectors[start : start + 4096] @ centres.T
        nearest[start : start + 4096] = (
            cosines.argmax(axis=1)[:, np.newaxis]
            if probes == 1
            else np.argpartition(cosines, len(centres) - probes, axis=1)[:, -probes:]
        )
    return nearest


def _search(windows: Float32, block: Int64, cells: _Cells) -> Candidates:
    """Compare every window of a block of photos, `(photos, 2, windows, DIMENSIONS)`, with the photos of its cells."""
    per_side = windows.shape[2]
    per_photo = 2 * per_side
    queries = windows.reshape(-1, DIMENSIONS)
    nearest = _nearest(queries, cells.centres, PROBES)
    asked = np.argsort(nearest.ravel(), kind="stable")
    bounds = np.searchsorted(nearest.ravel()[asked], np.arange(len(cells.centres) + 1))
    asked //= nearest.shape[1]
    queried, members, cosines = [], [], []
    for cell in range(len(cells.centres)):
        rows, (first, last) = asked[bounds[cell] : bounds[cell + 1]], cells.starts[cell : cell + 2]
        for start in range(0, len(rows) if last > first else 0, 4096):
            some = rows[start : start + 4096]
            likeness = queries[some] @ cells.sorted_vectors[first:last].T
            hit_rows, hit_columns = np.nonzero(likeness > NEAR)
            queried.append(some[hit_rows])
            members.append(cells.order[first + hit_columns])
            cosines.append(likeness[hit_rows, hit_columns])
    query, part, cosine = np.concatenate(queried), np.concatenate(members), np.concatenate(cosines)
    view = query % per_photo
    return _best(Candidates(block[query // per_photo], part, view >= per_side, view % per_side, cosine))


def _best(found: Candidates) -> Candidates:
    """The best window of each pair, then the best pairs of each photo; a photo is no pair with itself."""
    order = np.lexsort((-found.cosine, found.part, found.whole))
    whole, part = found.whole[order], found.part[order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (whole[1:] != whole[:-1]) | (part[1:] != part[:-1])
    order = order[is_first & (whole != part)]
    order = order[np.lexsort((-found.cosine[order], found.whole[order]))]
    whole = found.whole[order]
    rank = np.arange(len(order)) - np.searchsorted(whole, whole)
    return _taken(found, order[rank < MOST_CANDIDATES])


def _taken(found: Candidates, order: Int64) -> Candidates:
    return Candidates(
        found.whole[order], found.part[order], found.is_mirrored[order], found.window[order], found.cosine[order]
    )


def _joined(parts: list[Candidates]) -> Candidates:
    if not parts:
        none = np.zeros(0, np.int64)
        return Candidates(none, none, none.astype(np.bool_), none, none.astype(np.float32))
    return Candidates(
        np.concatenate([part.whole for part in parts]),
        np.concatenate([part.part for part in parts]),
        np.concatenate([part.is_mirrored for part in parts]),
        np.concatenate([part.window for part in parts]),
        np.concatenate([part.cosine for part in parts]),
    )
