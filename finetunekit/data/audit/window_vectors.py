"""A photo's low frequencies as a unit vector: of the whole photo, and of the windows that a 90 % crop of it might be.

Two files of one photo have nearly the same vector, whatever their size, compression, brightness or contrast; a crop's vector is
near that of the window it was cut from; a mirrored photo's is the photo's own with some signs changed.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.measure import SIDE_PX

#: Cosines along each axis, the constant one included.
COSINES = 8
#: Length of a vector: every product of two cosines but the constant one.
DIMENSIONS = COSINES * COSINES - 1
#: Spans of one axis that a photo is looked for in: all of it, and nine tenths of it at the start, the middle and the end.
SPANS = ((0.0, 1.0), (0.0, 0.9), (0.05, 0.95), (0.1, 1.0))
#: (rows, columns) spans of every window; the first is the whole photo.
WINDOWS = tuple(itertools.product(SPANS, SPANS))

Float32 = NDArray[np.float32]


def _cosine_rows(start: float, end: float) -> Float32:
    """What takes pixels of one axis to `COSINES` coefficients over a span of it, `(COSINES, SIDE_PX)`."""
    edges = np.clip(np.linspace(0, 1, SIDE_PX + 1), start, end)
    middles, shares = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / (end - start)
    phases = np.pi * (middles - start) / (end - start)
    return (np.cos(np.arange(COSINES)[:, np.newaxis] * phases) * shares).astype(np.float32)


_ROWS = np.concatenate([_cosine_rows(*span) for span in SPANS])
_NUMBERS = np.add.outer(np.arange(COSINES) ** 2, np.arange(COSINES) ** 2).ravel()[1:]
# Natural photos have amplitudes that fall as 1/frequency; multiplied by it, every coefficient counts alike.
# Source: Field 1987, "Relations between the statistics of natural images", J. Opt. Soc. Am. A 4(12).
_WEIGHTS = np.sqrt(_NUMBERS).astype(np.float32)
#: Signs that mirror a vector: cosines of odd number along a row change theirs.
MIRROR = np.tile(np.where(np.arange(COSINES) % 2, -1, 1), COSINES)[1:].astype(np.float32)


def whole_vectors(grey: NDArray[np.uint8]) -> Float32:
    """Unit vectors of whole photos.

    Args:
        grey: `(photos, SIDE_PX, SIDE_PX)` uint8.

    Returns:
        `(photos, DIMENSIONS)` float32; zeros where a photo is of one level.
    """
    rows = _ROWS[:COSINES]
    return _unit(rows @ grey.astype(np.float32) @ rows.T)


def window_vectors(grey: NDArray[np.uint8]) -> Float32:
    """Unit vectors of every window, and of every window mirrored.

    Args:
        grey: `(photos, SIDE_PX, SIDE_PX)` uint8.

    Returns:
        `(photos, 2, windows, DIMENSIONS)` float32: as they are, then mirrored.
    """
    products = _ROWS @ grey.astype(np.float32) @ _ROWS.T
    spans = len(SPANS)
    split = products.reshape(len(grey), spans, COSINES, spans, COSINES).transpose(0, 1, 3, 2, 4)
    vectors = _unit(split.reshape(len(grey), spans * spans, COSINES, COSINES))
    return np.stack([vectors, vectors * MIRROR], axis=1)


def _unit(coefficients: Float32) -> Float32:
    """`(..., COSINES, COSINES)` → `(..., DIMENSIONS)`: weighted, without the constant, of length 1."""
    flat = coefficients.reshape(*coefficients.shape[:-2], COSINES * COSINES)[..., 1:] * _WEIGHTS
    lengths = np.linalg.norm(flat, axis=-1, keepdims=True)
    unit: Float32 = np.divide(flat, lengths, out=np.zeros_like(flat), where=lengths > 1e-3)
    return unit
