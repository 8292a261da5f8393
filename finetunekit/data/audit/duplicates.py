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

from finetunekit.data.audit.candidates import Candidates, find_candidates
from finetunekit.data.audit.confirm import confirm, halved
from finetunekit.data.audit.frequencies import Float32
from finetunekit.data.audit.relation import Relation, relate
from finetunekit.data.known_photos import KnownPhotos
from finetunekit.data.splitting import join_pairs
from finetunekit.system.threads import one_thread

#: Photos with a smaller standard deviation, in grey levels, show nothing to compare; only exact copies of them are found.
LEAST_CONTRAST = 3.0
#: Smaller photos, by their longer side, have too little detail to be told from others; only exact copies of them are found.
LEAST_PX = 16
_CHUNK = 512
#: Change it whenever other pairs could be found: comparisons that were kept under another number are made again.
VERSION = 4


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two files of one photo.

    Attributes:
        first: Position of a photo.
        second: Position of another one, a later one.
        relation: What was done to the first file's photo; None where both are the same bytes.
        likeness: 1 for exact copies, else the share of blocks with texture that agree in pattern and brightness.
    """

    first: int
    second: int
    relation: Relation | None
    likeness: float

    def words(self, *, is_reversed: bool = False) -> str:
        """The second file as the first one's photo; reversed, the first as the second's."""
        if self.relation is None:
            return "the same file"
        return (self.relation.reversed() if is_reversed else self.relation).words()


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
    # by content: the same photos in another order have the same pairs
    distinct = np.array([position for _, position in sorted(first.items()) if is_telling[position]], np.int64)
    for near in _near_pairs_kept([sha256[p] for p in distinct], sizes_px[distinct], known, count):
        pairs.append(
            _in_order(dataclasses.replace(near, first=int(distinct[near.first]), second=int(distinct[near.second])))
        )
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def _in_order(pair: DuplicatePair) -> DuplicatePair:
    if pair.first < pair.second or pair.relation is None:
        return pair
    return DuplicatePair(pair.second, pair.first, pair.relation.reversed(), pair.likeness)


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
    for found in find_candidates(aspect, lambda photos: halved(pictures.greys(photos)), count):
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
    """Those of some candidates that are one photo, with what was done to it."""
    for number, place, likeness, differing, has_frame in zip(
        *confirm(found, pictures.greys, pictures.sizes_px), strict=True
    ):
        one, other = int(found.first[number]), int(found.second[number])
        relation = relate(
            place,
            pictures.sizes_px[[one, other]],
            has_frame=(bool(has_frame[0]), bool(has_frame[1])),
            differing=float(differing),
            is_inverted=bool(found.is_inverted[number]),
        )
        yield DuplicatePair(one, other, relation, round(float(likeness), 4))
