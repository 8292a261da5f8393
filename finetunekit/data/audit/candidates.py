"""Which photos could show a part of which, and where: pairs of near windows and keypoints, those that agree on a place first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit import keypoints, window_vectors
from finetunekit.data.audit.align import is_sensible
from finetunekit.data.audit.frames import unframed
from finetunekit.data.audit.frequencies import Float32
from finetunekit.data.audit.keypoints import Blobs, Scales, proportions
from finetunekit.data.audit.neighbours import Cells, Hits, nearest, rounded, sort_into_cells
from finetunekit.data.audit.window_vectors import Windows, asked_windows, orientation_matrix, whole_windows

#: Keypoints of a photo that are kept, and those that it is looked for by.
KEPT, ASKED = 60, 120
#: Of the latter so many, the strongest, are also looked for turned by `TURNS`, in radians.
TURNED = 32
TURNS = (0.0, -0.18, 0.18)
#: Least cosine of near windows, and of near keypoints.
NEAR_WINDOW, NEAR_KEYPOINT = 0.8, 0.9
#: A photo's candidates beyond so many, the best first, are left out: by windows, and by keypoints.
MOST_BY_WINDOWS, MOST_BY_KEYPOINTS = 4, 12
#: Places that two hits give for one corner of a photo, in parts of its sides, to be one place.
_SAME_PLACE = 0.1
#: Hits of one pair that are compared with each other, the nearest first.
_COMPARED = 8
#: Places of one pair that are looked at.
_PLACES = 2
#: Photos that are looked for at once, and those of which all blurs are held at once.
_ASKED_TOGETHER, _BLURRED_TOGETHER = 1024, 128

Int64 = NDArray[np.int64]
Greys = Callable[[Int64], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs worth a closer look.

    Attributes:
        first: `(pairs,)` int64, positions of photos.
        second: `(pairs,)` int64.
        maps: `(pairs, 2, 3)` float32, places in the second photo to places in the first, both in parts of their sides.
        is_inverted: `(pairs,)` bool.
    """

    first: Int64
    second: Int64
    maps: Float32
    is_inverted: NDArray[np.bool_]

    def taken(self, order: Int64 | slice) -> Candidates:
        """Some of the pairs."""
        return Candidates(self.first[order], self.second[order], self.maps[order], self.is_inverted[order])


@dataclass(frozen=True, slots=True)
class _Known:
    """What photos are found by.

    Attributes:
        sizes: `(photos, 2)` of pictures without frames.
        boxes: `(windows, 4)`, in parts of the sides of the picture without frame.
        kept: `(keypoints,)` int32, the blobs whose vectors are kept.
    """

    sizes: Float32
    window_cells: Cells
    window_photos: NDArray[np.int32]
    boxes: Float32
    blobs: _PackedBlobs
    keypoint_cells: Cells
    kept: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _PackedBlobs:
    """The blobs of all photos, 11 bytes each; `places`: `(blobs, 3)` float16."""

    photos: NDArray[np.int32]
    ranks: NDArray[np.uint8]
    places: NDArray[np.float16]

    def of(self, block: Int64) -> Blobs:
        """Those of neighbouring photos; `photo` counts from the first of them."""
        some = slice(*np.searchsorted(self.photos, [block[0], block[-1] + 1]))
        return Blobs(
            self.photos[some].astype(np.int64) - block[0],
            self.ranks[some].astype(np.int64),
            self.places[some].astype(np.float32),
        )


def find_candidates(
    aspect: NDArray[np.float64], greys: Greys, progress: Callable[[int, int], None] | None = None
) -> Iterator[Candidates]:
    """Every pair of photos of which one may show the other, or a part of it, a block of photos at a time.

    Args:
        aspect: `(photos,)`, width by height.
        greys: Positions `(n,)` → photos `(n, SIDE_PX, SIDE_PX)` uint8; asked for a block at a time.
        progress: Called with (photos done, photos in all).

    Yields:
        At most `MOST_BY_WINDOWS + MOST_BY_KEYPOINTS` pairs a photo. Memory: some 2.5 kB a photo and a block's working space.
    """
    photos = len(aspect)
    if not photos:
        return
    known = _get_to_know(aspect, greys)
    for block in _blocks(photos, _ASKED_TOGETHER):
        grey, _ = unframed(greys(block))
        yield _by_windows(asked_windows(grey), block, known)
        yield _by_keypoints(grey, block, known)
        if progress is not None:
            progress(int(block[-1]) + 1, photos)


def _blocks(photos: int, size: int) -> Iterator[Int64]:
    for start in range(0, photos, size):
        yield np.arange(start, min(start + size, photos))


def _get_to_know(aspect: NDArray[np.float64], greys: Greys) -> _Known:
    sizes, windows, blobs, vectors = [], [], [], []
    for block in _blocks(len(aspect), _BLURRED_TOGETHER):
        grey = greys(block)
        pictures, content = unframed(grey)
        sides = content[:, 2:] - content[:, :2]
        sizes.append(proportions(aspect[block] * sides[:, 0] / sides[:, 1]))
        windows.append(_wholes(grey, pictures, content, block))
        scales = Scales(pictures, sizes[-1])
        found = scales.blobs(ASKED)
        places = found.place.astype(np.float16)
        blobs.append((block[found.photo].astype(np.int32), found.rank.astype(np.uint8), places))
        strong = found.rank < KEPT
        vectors.append(rounded(scales.describe(found.photo[strong], places[strong].astype(np.float32))))
    window_photos, boxes, whole_vectors = (np.concatenate(part) for part in zip(*windows, strict=True))
    packed = _PackedBlobs(*(np.concatenate(part) for part in zip(*blobs, strict=True)))
    kept = np.flatnonzero(packed.ranks < KEPT).astype(np.int32)
    cells = sort_into_cells(np.concatenate(vectors), packed.photos[kept])
    windows_sorted = sort_into_cells(whole_vectors, window_photos)
    return _Known(np.concatenate(sizes), windows_sorted, window_photos, boxes, packed, cells, kept)


def _wholes(
    grey: NDArray[np.uint8], pictures: NDArray[np.uint8], content: Float32, block: Int64
) -> tuple[NDArray[np.int32], Float32, NDArray[np.int8]]:
    """Photos without their frames, and framed ones with them: photo, box in parts of the former, vector."""
    framed = np.flatnonzero((content != window_vectors.WHOLE).any(axis=1))
    sides = content[framed, 2:] - content[framed, :2]
    outer = np.concatenate([-content[framed, :2] / sides, (1 - content[framed, :2]) / sides], axis=1)
    boxes = np.concatenate([np.tile(np.array(window_vectors.WHOLE, np.float32), (len(block), 1)), outer])
    vectors = np.concatenate([whole_windows(pictures).vectors, whole_windows(grey[framed]).vectors])
    return np.concatenate([block, block[framed]]).astype(np.int32), boxes, rounded(vectors)


def _by_windows(asked: Windows, block: Int64, known: _Known) -> Candidates:
    owners = block[asked.photo].astype(np.int32)
    hits = nearest(asked.vectors, owners, known.window_cells, NEAR_WINDOW)
    second, first = block[asked.photo[hits.asked]], known.window_photos[hits.found].astype(np.int64)
    there, here = known.boxes[hits.found], asked.box[hits.asked]
    there_sides, here_sides = there[:, 2:] - there[:, :2], here[:, 2:] - here[:, :2]
    turn = np.stack([orientation_matrix(number).T for number in range(len(window_vectors.ORIENTATIONS))])
    maps = np.empty((len(first), 2, 3), np.float32)
    maps[:, :, :2] = there_sides[:, :, np.newaxis] * turn[asked.orientation[hits.asked]] / here_sides[:, np.newaxis]
    _join(maps, (here[:, :2] + here[:, 2:]) / 2, (there[:, :2] + there[:, 2:]) / 2)
    found = Candidates(first, second, maps, asked.is_inverted[hits.asked])
    weight = np.float32(1) / (
        np.float32(1.02) - hits.cosine
    )  # smooth photos have many near windows, and one that is nearest
    return _agreed(found, weight, MOST_BY_WINDOWS)


def _by_keypoints(grey: NDArray[np.uint8], block: Int64, known: _Known) -> Candidates:
    asked = known.blobs.of(block)
    described = _described(grey, known.sizes[block], asked)
    views = [(turn, is_mirrored) for turn in TURNS for is_mirrored in (False, True)]
    chosen = [np.flatnonzero(asked.rank < (TURNED if turn else ASKED)) for turn, _ in views]
    vectors = [upright * sign for upright in described for sign in (np.float32(1), keypoints.MIRROR)]
    blobs, view = np.concatenate(chosen), np.repeat(np.arange(len(views)), [len(some) for some in chosen])
    owners = block[asked.photo[blobs]].astype(np.int32)
    hits = nearest(np.concatenate(vectors), owners, known.keypoint_cells, NEAR_KEYPOINT)
    turned = np.stack([_turned_back(turn, is_mirrored) for turn, is_mirrored in views])[view[hits.asked]]
    hits = Hits(blobs[hits.asked], known.kept[hits.found].astype(np.int64), hits.cosine)
    return _agreed(_placed(hits, asked, block, known, turned), hits.cosine - NEAR_KEYPOINT + 0.05, MOST_BY_KEYPOINTS)


def _turned_back(turn: float, is_mirrored: bool) -> Float32:
    back = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]], np.float32)
    return back * np.array([[-1], [1]], np.float32) if is_mirrored else back


def _described(grey: NDArray[np.uint8], sizes: Float32, asked: Blobs) -> list[Float32]:
    """Vectors of the blobs at each of `TURNS`, turned ones of the strongest only."""
    parts: list[list[Float32]] = [[] for _ in TURNS]
    for block in _blocks(len(grey), _BLURRED_TOGETHER):
        scales = Scales(grey[block], sizes[block])
        some = slice(*np.searchsorted(asked.photo, [block[0], block[-1] + 1]))
        for part, turn in zip(parts, TURNS, strict=True):
            chosen = asked.rank[some] < (TURNED if turn else ASKED)
            part.append(scales.describe(asked.photo[some][chosen] - block[0], asked.place[some][chosen], turn))
    return [np.concatenate(part) for part in parts]


def _placed(hits: Hits, asked: Blobs, block: Int64, known: _Known, turned: Float32) -> Candidates:
    """Where each pair of keypoints says that the second photo lies in the first."""
    second, first = block[asked.photo[hits.asked]], known.blobs.photos[hits.found].astype(np.int64)
    here, there = asked.place[hits.asked], known.blobs.places[hits.found].astype(np.float32)
    maps = np.empty((len(first), 2, 3), np.float32)
    # from parts of the second's sides to pixels, to pixels of the first, to parts of its sides
    maps[:, :, :2] = (there[:, 2] / here[:, 2])[:, np.newaxis, np.newaxis] * turned
    maps[:, :, :2] *= known.sizes[second][:, np.newaxis] / known.sizes[first][:, :, np.newaxis]
    _join(maps, (here[:, :2] + 0.5) / known.sizes[second], (there[:, :2] + 0.5) / known.sizes[first])
    return Candidates(first, second, maps, np.zeros(len(first), np.bool_))


def _join(maps: Float32, here: NDArray[np.floating], there: NDArray[np.floating]) -> None:
    """Let each map take the place `here` to `there`."""
    maps[:, :, 2] = there - (maps[:, :, :2] @ here[:, :, np.newaxis])[:, :, 0]


def _agreed(found: Candidates, weight: Float32, most: int) -> Candidates:
    """Of each pair the place that most hits agree on, by weight; of each second photo the best pairs."""
    may_be = np.flatnonzero(is_sensible(found.maps))
    found, weight = found.taken(may_be), weight[may_be]
    if not len(found.first):
        return found
    order = np.lexsort((-weight, found.first, found.second))
    found, weight = found.taken(order), weight[order]
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (found.first[1:] != found.first[:-1]) | (found.second[1:] != found.second[:-1])
    starts, pair = np.flatnonzero(is_new), np.cumsum(is_new) - 1
    place = np.tile(starts, (_PLACES, 1))
    strength = np.zeros(place.shape, np.float32)
    strength[0] = weight[starts]
    several = np.flatnonzero(np.bincount(pair) > 1)
    place[:, several], strength[:, several] = _places_agreed(found, weight, pair, starts, several)
    order = np.lexsort((-strength[0], found.second[starts]))
    second = found.second[starts[order]]
    order = order[np.arange(len(order)) - np.searchsorted(second, second) < most]
    chosen = [at[order][power[order] > 0] for at, power in zip(place, strength, strict=True)]
    return found.taken(np.concatenate(chosen))


def _places_agreed(
    found: Candidates, weight: Float32, pair: Int64, starts: Int64, several: Int64
) -> tuple[Int64, Float32]:
    """Of pairs with several hits those that most others agree with, `(_PLACES, pairs)`, and by what weight."""
    number = np.full(len(starts), -1)
    number[several] = np.arange(len(several))
    rank = np.arange(len(pair)) - starts[pair]
    kept = np.flatnonzero((rank < _COMPARED) & (number[pair] >= 0))
    at = number[pair[kept]], rank[kept]
    weights = np.zeros((len(several), _COMPARED), np.float32)
    weights[at] = weight[kept]
    corners = np.full((len(several), _COMPARED, 6), np.inf, np.float32)
    corners[at] = _corners(found.maps[kept], found.is_inverted[kept])
    rows, places, strengths = np.arange(len(several)), [], []
    for _ in range(_PLACES):
        agreement, is_same = _agreement(corners, weights)
        best = agreement.argmax(axis=1)
        places.append(starts[several] + best)
        strengths.append(agreement[rows, best])
        weights[is_same[rows, best]] = 0
    return np.stack(places), np.stack(strengths)


def _corners(maps: Float32, is_inverted: NDArray[np.bool_]) -> Float32:
    """Where three corners of the second photo lie, in units of how large it is there, `(hits, 6)`."""
    spread = np.sqrt(np.abs(np.linalg.det(maps[:, :, :2])) + 1e-6)
    corners = maps @ np.array([[0, 1, 0], [0, 0, 1], [1, 1, 1]], np.float32)
    corners = corners.reshape(-1, 6) / spread[:, np.newaxis] + 100 * is_inverted[:, np.newaxis]
    return np.asarray(corners, np.float32)


def _agreement(corners: Float32, weights: Float32) -> tuple[Float32, NDArray[np.bool_]]:
    """Weight of all hits of a pair that agree with each of them, `(pairs, _COMPARED)`, and which agree with which."""
    is_same = np.zeros((*weights.shape, weights.shape[1]), np.bool_)
    with np.errstate(invalid="ignore"):  # infinity less infinity, for hits that a pair does not have
        for start in range(0, len(weights), 4096):
            some = corners[start : start + 4096]
            distance = np.abs(some[:, :, np.newaxis] - some[:, np.newaxis])
            is_same[start : start + 4096] = (distance < _SAME_PLACE).all(axis=3)
    return (is_same * weights[:, np.newaxis]).sum(axis=2) * (weights > 0), is_same
