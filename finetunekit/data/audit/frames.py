"""What photos show inside a plain frame: white or black borders are cut off before photos are compared."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.frequencies import Float32

#: A line belongs to a frame where at most this share of its pixels is further from the frame's level than so many grey levels.
_SHARE, _LEVELS = 0.02, 12
#: What is left has at least this share of each side, or else there is no frame.
_LEAST = 0.17


def unframed(grey: NDArray[np.uint8], boxes: NDArray[np.int64] | None = None) -> tuple[NDArray[np.uint8], Float32]:
    """Photos without their frames, stretched to squares again.

    Args:
        grey: `(photos, side, side)` uint8.
        boxes: What is inside their frames, `content_boxes` of the same pictures; None: it is looked for.

    Returns:
        Pictures of the same shape; and `(photos, 4)` float32: left, top, right, bottom of what is left, in parts of the sides.
    """
    side = grey.shape[-1]
    boxes = content_boxes(grey) if boxes is None else boxes
    pictures = grey.copy()
    for number in np.flatnonzero((boxes != (0, 0, side, side)).any(axis=1)):
        left, top, right, bottom = (int(edge) for edge in boxes[number])
        rows, columns = _stretching(top, bottom, side), _stretching(left, right, side)
        pictures[number] = np.round(rows @ grey[number].astype(np.float32) @ columns.T)
    return pictures, (boxes / side).astype(np.float32)


def content_boxes(grey: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Left, top, right, bottom of what is inside each photo's frame, `(photos, 4)`; the whole where it has none.

    Args:
        grey: `(photos, side, side)` uint8.
    """
    side = grey.shape[-1]
    rim = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
    level = np.partition(rim, 2 * side, axis=1)[:, 2 * side].astype(np.int16)
    is_content = np.abs(grey - level[:, np.newaxis, np.newaxis]) > _LEVELS
    (left, right), (top, bottom) = (_extent(is_content.sum(axis=axis) > _SHARE * side) for axis in (1, 2))
    boxes = np.stack([left, top, right, bottom], axis=1)
    boxes[np.minimum(right - left, bottom - top) < _LEAST * side] = (0, 0, side, side)
    return boxes


def _extent(is_content: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First line of content and the line behind the last one; those next to a frame are mixed with it and left out."""
    side = is_content.shape[1]
    first, last = is_content.argmax(axis=1), side - is_content[:, ::-1].argmax(axis=1)
    first += first > 0
    last -= last < side
    return first, np.where(is_content.any(axis=1), last, first)


@functools.cache
def _stretching(start: int, end: int, side: int) -> Float32:
    """What takes the pixels from `start` to `end` of one axis to `side` pixels, bilinear."""
    places = start - 0.5 + (np.arange(side) + 0.5) * (end - start) / side
    places = np.clip(places, start, end - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, np.newaxis] - np.arange(side))), np.float32)
