"""Training that has gone wrong, told by its numbers: a loss that is not finite, weights that do not move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import RunError
from finetunekit.training.stage_job import FitJob, Row

STILL = 1e-6
"""Length of the change of all trained weights in one epoch, over their own length, below which nothing is being learnt: float32 resolves
1.2e-7, and rates that train change weights by 1e-4 and more an epoch."""


def non_finite_loss_error(job: FitJob, epoch: int, seen: int, photos: Sequence[int]) -> RunError:
    """A loss that is not a finite number: which step, which photos, what to try.

    Args:
        job: The stage.
        epoch: Number in the run, from 0.
        seen: Draws of the epoch before this batch.
        photos: Indices of the batch's photos.
    """
    step = seen // job.feed.draws.batch_size + 1
    rate = job.stage.optimizer.learning_rate
    return RunError(
        f"the loss is not a finite number at epoch {epoch + 1}, step {step} (photos {job.sink.name_photos(photos)}). The weights of "
        f"the last complete epoch are kept. Lower optimizer.learning_rate of stage '{job.stage.name}' (now {rate:g}; try {rate / 10:g}), "
        "or check pixels.contract."
    )


def stuck_line(job: FitJob, before: Sequence[NDArray[Any]], row: Row) -> str | None:
    """What to say after the first epoch of a stage whose weights have hardly moved; None where they did.

    Args:
        job: The stage, its model as the epoch left it.
        before: Its trained weights before the epoch, in the model's order.
        row: The epoch's row.
    """
    moved, size = 0.0, 0.0
    for variable, array in zip(job.model.trainable_weights, before, strict=True):  # one at a time: they are large
        moved += _sum_of_squares(variable.numpy() - array)
        size += _sum_of_squares(array)
    share = math.sqrt(moved / max(size, 1e-60))
    if share >= STILL:
        return None
    rate = job.stage.optimizer.learning_rate
    return (
        f"warning: stage '{job.stage.name}' does not learn: its first epoch changed the weights by {share:.0e} of their size, loss "
        f"{row['loss']:.4f}. Raise optimizer.learning_rate (now {rate:g}), or look for a layer that passes no gradient on."
    )


def _sum_of_squares(array: NDArray[Any]) -> float:
    flat = array.ravel()
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))
