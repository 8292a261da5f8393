"""Files that hold the same photo: exact copies, re-encodings, turned, mirrored, cropped, framed and partly covered ones, in clusters."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.align import Fits, fit_pairs, is_sensible
from finetunekit.data.audit.candidates import Candidates, find_candidates
from finetunekit.data.audit.frames import unframed
from finetunekit.data.audit.frequencies import Float32
from finetunekit.data.audit.relation import Relation, relate
from finetunekit.data.known_photos import KnownPhotos
from finetunekit.data.measure import SIDE_PX
from finetunekit.data.splitting import join_pairs
from finetunekit.system.threads import one_thread

#: Least share of blocks with texture that agree, in two files of one photo, and how many there are at least; where nearly all agree,
#: fewer are enough. Unlike pairs of real photos have fewer blocks; drawn ones of one kind reach 0.89.
ALIKE = 0.9
LEAST_BLOCKS = 22
NEARLY_ALL, LEAST_OF_NEARLY_ALL = 0.95, 12
#: How much of what both show is not covered, at least.
LEAST_UNCOVERED = 0.45
#: Photos with a shorter side than this, in pixels, show so little that some part of one fits any other: of them nearly all has to agree.
SMALL_PX = 64
ALIKE_SMALL = 0.95
#: The same share on pictures of half the size, and after one step on whole ones, below which nothing more is fitted.
WORTH_FITTING = 0.4
WORTH_MORE = 0.35
#: Photos with a smaller standard deviation, in grey levels, show nothing to compare; only exact copies of them are found.
LEAST_CONTRAST = 3.0
#: Smaller photos, by their longer side, have too little detail to be told from others; only exact copies of them are found.
LEAST_PX = 16
_CHUNK = 256
#: Change it whenever other pairs could be found: comparisons that were kept under another number are made again.
VERSION = 1


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two files of one photo.

    Attributes:
        first: Position of a photo.
        second: Position of another one, a later one.
        relation: What was done to the first file's photo; None where both are the same bytes.
        likeness: 1 for exact copies, else the share of blocks with texture that agree.
    """

    first: int
    second: int
    relation: Relation | None
    likeness: float

    def words(self, *, is_reversed: bool = False) -> str:
        """The second file as the first one's photo; reversed, the first as the second's."""
        return "the same file" if self.relation is None else self.relation.words(is_reversed=is_reversed)


def find_pairs(
    sha256: Sequence[str],
    contrast: NDArray[Any],
    sizes_px: NDArray[np.float64],
    known: KnownPhotos,
    *,
    count: Callable[[int, int], None] | None = None,
) -> list[DuplicatePair]:
    """Every pair of files found to hold the same photo.

    Args:
        sha256: Of each photo, all of them known.
        contrast: `(photos,)`, standard deviation of its grey levels.
        sizes_px: `(photos, 2)`, width and height.
        known: Holds their small pictures.
        count: Called with (photos searched, photos in all).

    Returns:
        Exact copies, each with the first photo of the same content; and pairs of first photos that were found alike. Sorted.
    """
    first: dict[str, int] = {}
    pairs = []
    for position, name in enumerate(sha256):
        if first.setdefault(name, position) != position:
            pairs.append(DuplicatePair(first[name], position, None, 1.0))
    is_telling = (contrast >= LEAST_CONTRAST) & (sizes_px.max(axis=1) >= LEAST_PX)
    distinct = np.array([p for p in first.values() if is_telling[p]], np.int64)
    for near in _near_pairs_kept([sha256[p] for p in distinct], sizes_px[distinct], known, count):
        one, other = int(distinct[near.first]), int(distinct[near.second])
        pairs.append(DuplicatePair(one, other, near.relation, near.likeness))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def _near_pairs_kept(
    names: list[str], sizes_px: NDArray[np.float64], known: KnownPhotos, count: Callable[[int, int], None] | None
) -> list[DuplicatePair]:
    """Pairs of near photos, by positions in `names`; compared once for each set of photos."""
    if not names:
        return []
    key = hashlib.sha256(json.dumps([VERSION, names, sizes_px.tolist()]).encode()).digest()
    kept = known.comparison(key)
    if kept is not None:
        return [DuplicatePair(first, second, Relation(**told), likeness) for first, second, told, likeness in kept]
    with one_thread():
        pairs = list(_near_pairs(_Pictures(names, sizes_px, known), count))
    told = [(p.first, p.second, dataclasses.asdict(p.relation), p.likeness) for p in pairs if p.relation is not None]
    known.keep_comparison(key, told)
    return pairs


def clusters(photos: int, pairs: Sequence[DuplicatePair]) -> list[list[int]]:
    """Photos that pairs connect, each cluster in order, those of one photo left out."""
    members: dict[int, list[int]] = {}
    for position, first in enumerate(join_pairs(photos, [(pair.first, pair.second) for pair in pairs])):
        members.setdefault(first, []).append(position)
    return [cluster for cluster in members.values() if len(cluster) > 1]


@dataclass(frozen=True, slots=True)
class _Pictures:
    names: list[str]
    sizes_px: NDArray[np.float64]
    known: KnownPhotos

    def greys(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.known.greys([self.names[position] for position in positions])


def _near_pairs(pictures: _Pictures, count: Callable[[int, int], None] | None) -> list[DuplicatePair]:
    best: dict[tuple[int, int], DuplicatePair] = {}
    aspect = pictures.sizes_px[:, 0] / pictures.sizes_px[:, 1]
    for found in find_candidates(aspect, pictures.greys, count):
        for start in range(0, len(found.first), _CHUNK):
            for pair in _confirmed(_ordered(found.taken(slice(start, start + _CHUNK))), pictures):
                at = (pair.first, pair.second)
                if at not in best or best[at].likeness < pair.likeness:
                    best[at] = pair
    return list(best.values())


def _ordered(found: Candidates) -> Candidates:
    """The same with the earlier photo first."""
    is_late = found.first > found.second
    maps = found.maps.copy()
    maps[is_late] = _inverse(found.maps[is_late])
    first, second = np.minimum(found.first, found.second), np.maximum(found.first, found.second)
    return Candidates(first, second, maps, found.is_inverted)


def _inverse(maps: Float32) -> Float32:
    linear = np.linalg.inv(maps[:, :, :2])
    return np.asarray(np.concatenate([linear, -linear @ maps[:, :, 2:]], axis=2), np.float32)


def _confirmed(found: Candidates, pictures: _Pictures) -> Iterator[DuplicatePair]:
    """Those of some candidates that are one photo, looked at on pictures of half the size, then on whole ones."""
    photos, at = np.unique(np.concatenate([found.first, found.second]), return_inverse=True)
    greys, boxes = unframed(pictures.greys(photos))
    first, second = at[: len(found.first)], at[len(found.first) :]
    seen = np.where(found.is_inverted[:, np.newaxis, np.newaxis], 255 - greys[second], greys[second])
    rough = fit_pairs(_half(greys[first]), _half(seen), found.maps, grid=SIDE_PX // 4, steps=6)
    worth = np.flatnonzero(is_sensible(rough.maps) & (_likeness(rough) >= WORTH_FITTING))
    fits = fit_pairs(greys[first[worth]], seen[worth], rough.maps[worth], grid=SIDE_PX // 2, steps=1)
    closer = np.flatnonzero(_likeness(fits) >= WORTH_MORE)
    worth = worth[closer]
    fits = fit_pairs(greys[first[worth]], seen[worth], fits.maps[closer], grid=SIDE_PX // 2, steps=4)
    likeness = _likeness(fits)
    smallest_px = np.minimum(*(pictures.sizes_px[side[worth]].min(axis=1) for side in (found.first, found.second)))
    is_alike = is_sensible(fits.maps) & (likeness >= np.where(smallest_px < SMALL_PX, ALIKE_SMALL, ALIKE))
    enough = np.where(likeness >= NEARLY_ALL, LEAST_OF_NEARLY_ALL, LEAST_BLOCKS)
    is_alike &= (fits.agreeing >= enough) & (fits.uncovered >= LEAST_UNCOVERED)
    for number in np.flatnonzero(is_alike):
        pair = worth[number]
        one, other = int(found.first[pair]), int(found.second[pair])
        relation = relate(
            _with_frames(fits.maps[number], boxes[first[pair]], boxes[second[pair]]),
            pictures.sizes_px[[one, other]],
            has_frame=(_has_frame(boxes[first[pair]]), _has_frame(boxes[second[pair]])),
            differing=float(1 - likeness[number] * fits.uncovered[number]),
            is_inverted=bool(found.is_inverted[pair]),
        )
        yield DuplicatePair(one, other, relation, round(float(likeness[number]), 4))


def _likeness(fits: Fits) -> NDArray[np.float64]:
    return np.asarray(fits.agreeing / np.maximum(fits.textured, 1))


def _half(greys: NDArray[np.uint8]) -> NDArray[np.uint8]:
    half = SIDE_PX // 2
    return np.asarray(greys.reshape(len(greys), half, 2, half, 2).mean(axis=(2, 4)), np.uint8)


def _has_frame(box: Float32) -> bool:
    return float((box[2:] - box[:2]).prod()) < 1


def _with_frames(fitted: Float32, first: Float32, second: Float32) -> Float32:
    """A map between photos without their frames as one between whole photos."""
    there, here = first[2:] - first[:2], second[2:] - second[:2]
    linear = there[:, np.newaxis] * fitted[:, :2] / here
    shift = first[:2] + there * fitted[:, 2] - linear @ second[:2]
    return np.concatenate([linear, shift[:, np.newaxis]], axis=1).astype(np.float32)
