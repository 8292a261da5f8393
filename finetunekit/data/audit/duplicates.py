"""Files that hold the same photo: exact copies, re-encodings, mirror images and crops, in clusters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.align import match_window
from finetunekit.data.audit.neighbours import Candidates, find_candidates
from finetunekit.data.audit.window_vectors import WINDOWS
from finetunekit.data.known_photos import KnownPhotos
from finetunekit.data.splitting import join_pairs
from finetunekit.system.threads import one_thread

#: Least correlation of gradients of two files of one photo. Measured on 1,446 real photos of 320 px: planted re-encodings, mirror images
#: and crops lie at 0.91 and above, candidate pairs of unlike photos at 0.55 and below (benchmarks/bench_audit.py).
ALIKE = 0.85
#: Correlation before the window is fitted, below which no fit has led to a match.
WORTH_FITTING = 0.2
#: Photos with a smaller standard deviation, in grey levels, show nothing to compare; only exact copies of them are found.
LEAST_CONTRAST = 3.0
_WHOLE = 0.03
_CHUNK = 256

Kind = Literal["exact", "copy", "mirror", "crop", "mirrored crop"]


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two files of one photo.

    Attributes:
        first: Position of a photo.
        second: Position of another one.
        kind: `exact`: the same bytes. `copy`: saved again, at another size, quality or brightness. The others as named.
        likeness: 1 for exact copies, else the correlation of both photos' gradients.
    """

    first: int
    second: int
    kind: Kind
    likeness: float


def find_pairs(
    sha256: Sequence[str],
    contrast: NDArray[Any],
    known: KnownPhotos,
    *,
    alike: float = ALIKE,
    count: Callable[[int, int], None] | None = None,
) -> list[DuplicatePair]:
    """Every pair of files found to hold the same photo.

    Args:
        sha256: Of each photo, all of them known.
        contrast: `(photos,)`, standard deviation of its grey levels.
        known: Holds their small pictures.
        alike: Least likeness of a pair that is no exact copy.
        count: Called with (photos searched, photos in all).

    Returns:
        Exact copies, each with the first photo of the same content; and pairs of first photos that were found alike. Sorted.
    """
    first: dict[str, int] = {}
    pairs = []
    for position, name in enumerate(sha256):
        if first.setdefault(name, position) != position:
            pairs.append(DuplicatePair(first[name], position, "exact", 1.0))
    distinct = np.array([p for p in first.values() if contrast[p] >= LEAST_CONTRAST], np.int64)
    pairs += _near_pairs([sha256[p] for p in distinct], distinct, known, alike, count)
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def clusters(photos: int, pairs: Sequence[DuplicatePair]) -> list[list[int]]:
    """Photos that pairs connect, each cluster in order, those of one photo left out."""
    members: dict[int, list[int]] = {}
    for position, first in enumerate(join_pairs(photos, [(pair.first, pair.second) for pair in pairs])):
        members.setdefault(first, []).append(position)
    return [cluster for cluster in members.values() if len(cluster) > 1]


def _near_pairs(
    names: list[str],
    positions: NDArray[np.int64],
    known: KnownPhotos,
    alike: float,
    count: Callable[[int, int], None] | None,
) -> list[DuplicatePair]:
    with one_thread():
        found = find_candidates(len(names), lambda block: known.greys([names[i] for i in block]), progress=count)
        best: dict[tuple[int, int], DuplicatePair] = {}
        for start in range(0, len(found.whole), _CHUNK):
            for pair in _confirm(found, slice(start, start + _CHUNK), names, known, alike):
                one, other = sorted((int(positions[pair.first]), int(positions[pair.second])))
                if (one, other) not in best or best[one, other].likeness < pair.likeness:
                    best[one, other] = DuplicatePair(one, other, pair.kind, pair.likeness)
    return list(best.values())


def _confirm(found: Candidates, part: slice, names: list[str], known: KnownPhotos, alike: float) -> list[DuplicatePair]:
    wholes = known.greys([names[i] for i in found.whole[part]])
    parts = known.greys([names[i] for i in found.part[part]])
    pairs = []
    for row, (whole, other) in enumerate(zip(wholes, parts, strict=True)):
        at = (part.start or 0) + row
        mirrored = bool(found.is_mirrored[at])
        (top, bottom), (left, right) = WINDOWS[int(found.window[at])]
        if mirrored:
            left, right = 1 - right, 1 - left
        match = match_window(
            whole[:, ::-1] if mirrored else whole, other, (top, bottom, left, right), worth_fitting=WORTH_FITTING
        )
        if match.likeness >= alike:
            kind = _kind(match.window, mirrored)
            pairs.append(DuplicatePair(int(found.whole[at]), int(found.part[at]), kind, round(match.likeness, 4)))
    return pairs


def _kind(window: tuple[float, float, float, float], is_mirrored: bool) -> Kind:
    top, bottom, left, right = window
    is_whole = max(abs(top), abs(left), abs(1 - bottom), abs(1 - right)) <= _WHOLE
    if is_whole:
        return "mirror" if is_mirrored else "copy"
    return "mirrored crop" if is_mirrored else "crop"
