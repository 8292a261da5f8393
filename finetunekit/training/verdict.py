"""Whether a stage lowered the log loss: decided by an interval over photos, since a difference of a few photos is chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics import PROBABILITY_FLOOR, mean_interval

LEVEL = 0.95
LARGEST = -float(np.log(PROBABILITY_FLOOR))
"""Nats that a log loss can have, and so the largest difference of two."""
LEAST_GAIN = 0.001
"""Nats; of photos that are right already, what a stage gains on top is not worth its time."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Log losses of the same photos before a stage and after it, in nats.

    Attributes:
        photos: How many.
        before: Mean log loss before the stage.
        after: Mean log loss after it.
        low: Lower end of the 95 % interval of `after - before`.
        high: Its upper end.
    """

    photos: int
    before: float
    after: float
    low: float
    high: float

    @property
    def has_gained(self) -> bool:
        """Whether the mean fell by `LEAST_GAIN` or more; a loss that is not finite is not lower."""
        return bool(np.isfinite(self.after)) and self.before - self.after >= LEAST_GAIN

    @property
    def is_better(self) -> bool:
        """Whether it gained, and the whole interval lies below 0."""
        return self.has_gained and self.high < 0

    def words(self) -> str:
        """For a line: the losses, and the interval of their difference."""
        return f"log loss {self.after:.4f} against {self.before:.4f} before, {show_difference(self.low, self.high)}"

    def record(self) -> dict[str, Any]:
        """For `run.json`, with `reverted`: whether the weights from before the stage are kept."""
        return {**asdict(self), "level": LEVEL, "reverted": not self.is_better}


def show_difference(low: float, high: float) -> str:
    """The interval of a difference in words."""
    if max(-low, high) >= LARGEST:
        return "too few photos for an interval of the difference"
    return f"difference between {low:+.4f} and {high:+.4f}"


def judge(before: NDArray[np.float64], after: NDArray[np.float64]) -> Verdict:
    """Compare the log losses of the same photos.

    Args:
        before: `(photos,)`, at least 1.
        after: `(photos,)`.
    """
    means = float(before.mean()), float(after.mean())
    difference = after - before
    if not np.isfinite(difference).all():
        return Verdict(len(before), *means, -LARGEST, LARGEST)
    interval = mean_interval(difference, level=LEVEL, bounds=(-LARGEST, LARGEST))
    return Verdict(len(before), *means, interval.low, interval.high)
