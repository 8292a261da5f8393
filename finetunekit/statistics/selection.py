"""What choosing the best of many does to the figure that it was chosen by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics.arrays import FloatArray
from finetunekit.statistics.bootstrap import chunk_sizes, percentile_interval
from finetunekit.statistics.intervals import Interval

REPLICATES = 1000


@dataclass(frozen=True, slots=True)
class Selection:
    """The best of several by its loss, and what its kind is worth on photos that did not choose it.

    Attributes:
        best: Which one, by position.
        apparent: Its mean loss on the photos that chose it.
        corrected: Mean loss, on photos that were not drawn, of whichever was best on those that were.
        interval: Of that, 95 %, percentiles.
        apparent_accuracy: As `apparent`, for the share of photos right.
        corrected_accuracy: As `corrected`.
        stability: Share of the draws that chose the same one.
        photos: On which they were compared.
        candidates: How many were compared.
    """

    best: int
    apparent: float
    corrected: float
    interval: Interval
    apparent_accuracy: float
    corrected_accuracy: float
    stability: float
    photos: int
    candidates: int


def check_selection(losses: FloatArray, is_right: NDArray[np.bool_], *, seed: int = 0) -> Selection:
    """Choose by drawn photos, score by those that were not drawn; nothing is trained again.

    About 63 % of the photos are drawn each time, so that what is corrected is the choice by fewer photos: it errs on the careful side.

    Args:
        losses: `(candidates, photos)`, one or more candidates, two or more photos.
        is_right: `(candidates, photos)`.
        seed: Of the draws.

    Raises:
        ValueError: If there is no candidate or only one photo.

    Source: bootstrap bias corrected cross-validation, Tsamardinos, Greasidou and Borboudakis 2018, Machine Learning 107, 1895-1922,
        algorithm 5.
    """
    candidates, photos = losses.shape
    if candidates < 1 or photos < 2:
        raise ValueError(f"a selection needs a candidate and two photos. Received: {candidates} and {photos}")
    generator, columns = np.random.default_rng(seed), losses.T
    best = int(losses.mean(axis=1).argmin())
    chosen, scores, shares = [], [], []
    for size in chunk_sizes(max(photos, candidates), REPLICATES):
        counts = _draw(generator, size, photos)
        winners = (counts @ columns).argmin(axis=1)
        left = (counts == 0).astype(np.float64)
        left = left / np.maximum(left.sum(axis=1, keepdims=True), 1)
        rows = np.arange(size)
        has_left = left.sum(axis=1) > 0
        chosen.append(winners[has_left])
        scores.append((left @ columns)[rows, winners][has_left])
        shares.append((left @ is_right.T.astype(np.float64))[rows, winners][has_left])
    losses_left = np.concatenate(scores)
    return Selection(
        best=best,
        apparent=float(losses[best].mean()),
        corrected=float(losses_left.mean()),
        interval=percentile_interval(losses_left, 0.95, "bootstrap bias corrected"),
        apparent_accuracy=float(is_right[best].mean()),
        corrected_accuracy=float(np.concatenate(shares).mean()),
        stability=float((np.concatenate(chosen) == best).mean()),
        photos=photos,
        candidates=candidates,
    )


def _draw(generator: np.random.Generator, replicates: int, photos: int) -> FloatArray:
    """How often each photo was drawn: `(replicates, photos)`."""
    return generator.multinomial(photos, np.full(photos, 1 / photos), size=replicates).astype(np.float64)
