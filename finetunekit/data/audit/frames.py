"""What photos show inside a plain frame: white or black borders are cut off before photos are compared."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.frequencies import Float32
from finetunekit.data.measure import SIDE_PX

#: A line belongs to a frame where at most this share of its pixels is further from the frame's level than so many grey levels.
_SHARE, _LEVELS = 0.02, 12
#: What is left has at least this many lines, or else there is no frame.
_LEAST_PX = 12


def unframed(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Float32]:
    """Photos without their frames, stretched to squares again.

    Args:
        grey: `(photos, SIDE_PX, SIDE_PX)` uint8.

    Returns:
        Pictures of the same shape; and `(photos, 4)` float32: left, top, right, bottom of what is left, in parts of the sides.
    """
    boxes = np.array([_content(one) for one in grey], np.int64).reshape(-1, 4)
    pictures = grey.copy()
    for number in np.flatnonzero((boxes != (0, 0, SIDE_PX, SIDE_PX)).any(axis=1)):
        left, top, right, bottom = (int(edge) for edge in boxes[number])
        rows, columns = _stretching(top, bottom), _stretching(left, right)
        pictures[number] = np.round(rows @ grey[number].astype(np.float32) @ columns.T)
    return pictures, (boxes / SIDE_PX).astype(np.float32)


def _content(grey: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    level = int(np.partition(rim, len(rim) // 2)[len(rim) // 2])
    is_content = np.abs(grey.astype(np.int16) - level) > _LEVELS
    rows = np.flatnonzero(is_content.sum(axis=1) > _SHARE * SIDE_PX)
    columns = np.flatnonzero(is_content.sum(axis=0) > _SHARE * SIDE_PX)
    if min(len(rows), len(columns)) == 0 or min(np.ptp(rows), np.ptp(columns)) < _LEAST_PX:
        return 0, 0, SIDE_PX, SIDE_PX
    first, last = (int(columns[0]), int(rows[0])), (int(columns[-1]), int(rows[-1]))
    # the outermost lines of what is left are mixed with the frame
    left, top = (edge + (edge > 0) for edge in first)
    right, bottom = (edge + (edge == SIDE_PX - 1) for edge in last)
    return left, top, right, bottom


@functools.cache
def _stretching(start: int, end: int) -> Float32:
    """What takes the pixels from `start` to `end` of one axis to `SIDE_PX` pixels, bilinear."""
    places = start - 0.5 + (np.arange(SIDE_PX) + 0.5) * (end - start) / SIDE_PX
    places = np.clip(places, start, end - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, np.newaxis] - np.arange(SIDE_PX))), np.float32)
