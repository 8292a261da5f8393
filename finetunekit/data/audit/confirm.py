"""Which candidate pairs are one photo: looked at on small pictures, then on ever larger ones, and most are dropped on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.align import Fits, Pictures, Places, first_look, fit_pairs, is_sensible, overlaid
from finetunekit.data.audit.candidates import Candidates
from finetunekit.data.audit.equal_pixels import equal_pixels
from finetunekit.data.audit.frames import content_boxes, unframed
from finetunekit.data.audit.frequencies import Float32

#: Least correlation of the first look, on pictures of a quarter of the size, before anything is fitted.
WORTH_FITTING = 0.25
#: Correlation of the first look from which on a pair is compared pixel by pixel as well, whatever its blocks say.
ALIKE_AS_A_WHOLE = 0.6
#: Of one photo under a watermark this share of the places with detail is equal within so many grey levels, on pictures of half the size.
COARSE_SHARE, COARSE_LEVELS = 0.06, 5.0
#: The same on whole pictures; they are this part of all places, and lie in so many blocks.
FINE_SHARE, FINE_LEVELS, LEAST_PLACES, BLOCKS_WITH_SOME = 0.12, 3.0, 0.053, 11
#: Least and greatest quotient of contrasts of such pairs. Unlike photos reach many equal places only if one of them is made flat.
SAME_CONTRAST = (0.9, 1.1)
#: Least share of blocks with texture that agree after the first steps of a fit, on such pictures and on those of half the size; and
#: after the others.
WORTH_A_STEP = 0.3
WORTH_MORE = 0.45
#: Of two files of one photo, at least so many blocks agree in pattern and brightness, and this share of those with texture; a larger
#: share is enough where there are fewer.
ALIKE, LEAST_BLOCKS = 0.3, 24
ALIKE_OF_FEW, LEAST_OF_FEW = 0.6, 14
ALIKE_COARSE, LEAST_COARSE = 0.8, 22
#: Photos with a shorter side than this, in pixels, show so little that some part of one fits any other: of them nearly all has to agree.
SMALL_PX = 64
ALIKE_SMALL = 0.95
#: How much of what both show is not covered, at least.
LEAST_UNCOVERED = 0.55
#: Grey levels by which a block's brightness may differ from what those of the others say.
_SAME_LEVEL = 5.0
_ROBUST_LEVELS = 6.0
_ROUNDS = 5
#: Least and greatest quotient of contrasts.
_SLOPES = (0.2, 5.0)


class Confirmed(NamedTuple):
    """Candidates that are one photo.

    Attributes:
        number: `(pairs,)` int64, position among the candidates.
        maps: `(pairs, 2, 3)` float32, places in the second photo to places in the first, frames included, in parts of their sides.
        likeness: `(pairs,)` share of blocks with texture that agree in pattern and brightness.
        differing: `(pairs,)` share of what both show that differs.
        has_frame: `(pairs, 2)` bool.
    """

    number: NDArray[np.int64]
    maps: Float32
    likeness: NDArray[np.float64]
    differing: NDArray[np.float64]
    has_frame: NDArray[np.bool_]


def confirm(
    found: Candidates, greys: Callable[[NDArray[np.int64]], NDArray[np.uint8]], sizes_px: NDArray[np.float64]
) -> Confirmed:
    """Those of some candidates that are one photo.

    Args:
        found: Candidates.
        greys: Positions of photos → `(photos, SIDE_PX, SIDE_PX)` uint8.
        sizes_px: `(photos, 2)`, width and height of all photos.
    """
    photos, at = np.unique(np.concatenate([found.first, found.second]), return_inverse=True)
    whole = greys(photos)
    fine, boxes = unframed(whole, 2 * content_boxes(halved(whole)))
    likely = _likely(fine, Places(at[: len(found.first)], at[len(found.first) :], found.is_inverted, found.maps))
    number = likely.number
    largest, places = _needed(fine, likely.places)
    fits = fit_pairs(largest, places, 2)
    likeness = _likeness(fits)
    is_small = sizes_px[[found.first[number], found.second[number]]].min(axis=(0, 2)) < SMALL_PX
    is_one = _is_one_photo(fits, is_small) | _is_one_coarse_photo(likely.coarse, is_small)
    left = np.flatnonzero(~is_one & ~is_small & (likely.look >= ALIKE_AS_A_WHOLE) & is_sensible(fits.maps))
    is_one[left] = _is_one_watermarked(largest, places.fitted(fits.maps).taken(left))
    kept = np.flatnonzero(is_one)
    first, second = boxes[likely.places.first[kept]], boxes[likely.places.second[kept]]
    return Confirmed(
        number[kept],
        _with_frames(fits.maps[kept], first, second),
        likeness[kept],
        1 - likeness[kept] * fits.uncovered[kept],
        np.stack([_has_frame(first), _has_frame(second)], axis=1),
    )


class _Likely(NamedTuple):
    """Pairs that smaller pictures do not tell apart: `number` among those asked, where they lie now, the last fit, the first look."""

    number: NDArray[np.int64]
    places: Places
    coarse: Fits
    look: Float32


def _likely(fine: NDArray[np.uint8], places: Places) -> _Likely:
    """Look at pairs on pictures of a quarter and half of the size."""
    half = halved(fine)
    quarter = Pictures.of(halved(half))
    look = first_look(quarter, places)
    number = np.flatnonzero(look >= WORTH_FITTING)
    places, look = places.taken(number), look[number]
    for is_quarter, steps, least in (
        (True, 2, WORTH_A_STEP),
        (True, 4, WORTH_MORE),
        (False, 1, WORTH_A_STEP),
        (False, 4, WORTH_MORE),
    ):
        pictures, where = (quarter, places) if is_quarter else _needed(half, places)
        fits = fit_pairs(pictures, where, steps)
        worth = np.flatnonzero(is_sensible(fits.maps) & ((fits.likeness >= least) | (look >= ALIKE_AS_A_WHOLE)))
        number, places, look = number[worth], places.fitted(fits.maps).taken(worth), look[worth]
    coarse = fits.taken(worth)
    unlike = np.flatnonzero(coarse.likeness < WORTH_MORE)
    pictures, where = _needed(half, places.taken(unlike))
    equal = equal_pixels(*overlaid(pictures, where), COARSE_LEVELS)
    left = np.delete(np.arange(len(number)), unlike[equal.share < COARSE_SHARE])
    return _Likely(number[left], places.taken(left), coarse.taken(left), look[left])


def halved(greys: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`(photos, side, side)` → `(photos, side / 2, side / 2)`, each four pixels as one."""
    rows = greys[:, ::2].astype(np.uint16) + greys[:, 1::2]
    return ((rows[:, :, ::2] + rows[:, :, 1::2] + 2) >> 2).astype(np.uint8)


def _needed(greys: NDArray[np.uint8], places: Places) -> tuple[Pictures, Places]:
    """Those pictures that the pairs need, and the pairs by their numbers among these."""
    photos, at = np.unique(np.concatenate([places.first, places.second]), return_inverse=True)
    pairs = len(places.first)
    return Pictures.of(greys[photos]), Places(at[:pairs], at[pairs:], places.is_inverted, places.maps)


def _is_one_photo(fits: Fits, is_small: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether enough blocks agree, on whole pictures."""
    likeness, agreeing = _likeness(fits), _agreeing(fits)
    is_one = (likeness >= ALIKE) & (agreeing >= LEAST_BLOCKS)
    is_one |= (likeness >= ALIKE_OF_FEW) & (agreeing >= LEAST_OF_FEW)
    is_one &= ~is_small | (likeness >= ALIKE_SMALL)
    return np.asarray(is_one & is_sensible(fits.maps) & (fits.uncovered >= LEAST_UNCOVERED))


def _is_one_coarse_photo(fits: Fits, is_small: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The same on pictures of half the size, where nearly all has to agree: of some photos, compression leaves no more."""
    is_one = (_likeness(fits) >= ALIKE_COARSE) & (_agreeing(fits) >= LEAST_COARSE) & ~is_small
    return np.asarray(is_one & (fits.uncovered >= LEAST_UNCOVERED))


def _is_one_watermarked(pictures: Pictures, places: Places) -> NDArray[np.bool_]:
    """Whether enough places are equal, all over whole pictures: what a watermark leaves between its letters."""
    equal = equal_pixels(*overlaid(pictures, places), FINE_LEVELS)
    is_one = (equal.share >= FINE_SHARE) & (equal.places >= LEAST_PLACES) & (equal.blocks >= BLOCKS_WITH_SOME)
    return np.asarray(is_one & (equal.slope > SAME_CONTRAST[0]) & (equal.slope < SAME_CONTRAST[1]))


def _likeness(fits: Fits) -> NDArray[np.float64]:
    """Share of blocks that agree in pattern and brightness."""
    return np.asarray(_agreeing(fits) / np.maximum(fits.textured, 1))


def _agreeing(fits: Fits) -> NDArray[np.int64]:
    return np.asarray((fits.agrees & _has_common_levels(fits)).sum(axis=1))


def _has_common_levels(fits: Fits) -> NDArray[np.bool_]:
    """`(pairs, blocks)`: where the second picture's brightness is what the others' say of the first one's, by a straight line.

    What is drawn or posed alike seldom has the same brightness throughout. The line is fitted to blocks of the same pattern; those far
    off count little (Geman and McClure 1987).
    """
    one, other = fits.levels[:, 0], fits.levels[:, 1]
    weight = fits.agrees.astype(np.float32)
    for _ in range(_ROUNDS):
        total = weight.sum(axis=1, keepdims=True) + 1e-6
        from_one, from_other = (level - (weight * level).sum(axis=1, keepdims=True) / total for level in (one, other))
        spread, product = ((weight * from_one * by).sum(axis=1, keepdims=True) for by in (from_one, from_other))
        slope = np.clip((product + total) / (spread + total), *_SLOPES)
        off = np.abs(from_other - slope * from_one) / np.sqrt(slope)
        weight = fits.agrees / (1 + (off / _ROBUST_LEVELS) ** 2) ** 2
    return np.asarray(off < _SAME_LEVEL)


def _has_frame(boxes: Float32) -> NDArray[np.bool_]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) < 1)


def _with_frames(fitted: Float32, first: Float32, second: Float32) -> Float32:
    """Maps between photos without their frames as such between whole photos."""
    there, here = first[:, 2:] - first[:, :2], second[:, 2:] - second[:, :2]
    linear = there[:, :, np.newaxis] * fitted[:, :, :2] / here[:, np.newaxis]
    shift = first[:, :2] + there * fitted[:, :, 2] - (linear @ second[:, :2, np.newaxis])[:, :, 0]
    return np.concatenate([linear, shift[:, :, np.newaxis]], axis=2).astype(np.float32)
