"""Low frequencies of pictures: cosines over a span of one axis, what they weigh, and what mirrors them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.measure import SIDE_PX

#: Side of the pictures that photos are searched by; pairs are then compared on larger ones.
SEARCHED_PX = SIDE_PX // 2

Float32 = NDArray[np.float32]


def cosine_rows(start: float, end: float, pixels: int, cosines: int) -> Float32:
    """What takes the pixels of one axis to coefficients over a span of it.

    Args:
        start: Of the span, in parts of the axis.
        end: Of the span.
        pixels: Length of the axis.
        cosines: How many coefficients, the constant one included.

    Returns:
        `(cosines, pixels)` float32.
    """
    edges = np.clip(np.linspace(0, 1, pixels + 1), start, end)
    middles, shares = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / (end - start)
    phases = np.pi * (middles - start) / (end - start)
    return (np.cos(np.arange(cosines)[:, np.newaxis] * phases) * shares).astype(np.float32)


def weights(cosines: int) -> Float32:
    """Of every product of two cosines but the constant one: natural photos have amplitudes that fall as 1/frequency.

    Source: Field 1987, "Relations between the statistics of natural images", J. Opt. Soc. Am. A 4(12).
    """
    numbers = np.arange(cosines) ** 2
    return np.sqrt(np.add.outer(numbers, numbers).ravel()[1:]).astype(np.float32)


def signs(cosines: int) -> Float32:
    """What mirrors coefficients, those of odd number along a row change theirs; the constant one left out."""
    return np.tile(np.where(np.arange(cosines) % 2, -1, 1), cosines)[1:].astype(np.float32)
