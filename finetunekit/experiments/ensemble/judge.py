"""What validation photos say of an ensemble: whether its members' weights may be averaged, and what it gained over the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics import Interval, mean_interval, photo_log_losses
from finetunekit.statistics.equivalence import CHANGE_BOUNDS
from finetunekit.system.formatting import counted

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Change:
    """One network against another on the same photos.

    Attributes:
        photos: How many.
        before: Mean log loss of the first, in nats.
        after: Of the second.
        interval: Of after minus before, 95 %.
        right_before: Photos that the first has right.
        right_after: That the second has right.
    """

    photos: int
    before: float
    after: float
    interval: Interval
    right_before: int
    right_after: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def words(self) -> str:
        """The difference with its interval."""
        low, high = (_signed(end) for end in (self.interval.low, self.interval.high))
        return f"{_signed(self.after - self.before)} (95 % interval {low} to {high})"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def change(before: Rows, after: Rows, labels: NDArray[np.int64]) -> Change:
    """Compare probabilities `(photos, classes)` of two networks for the same photos."""
    losses = [photo_log_losses(rows, labels) for rows in (before, after)]
    return Change(
        photos=len(labels),
        before=float(losses[0].mean()),
        after=float(losses[1].mean()),
        interval=mean_interval(losses[1] - losses[0], bounds=CHANGE_BOUNDS),
        right_before=int((before.argmax(axis=1) == labels).sum()),
        right_after=int((after.argmax(axis=1) == labels).sum()),
    )


@dataclass(frozen=True, slots=True)
class WeightsVerdict:
    """Whether the mean of the members' weights answers for all of them.

    Attributes:
        is_kept: Whether it does.
        against: The mean of the weights against the mean of the probabilities.
        members: Mean log loss of each member.
    """

    is_kept: bool
    against: Change
    members: tuple[float, ...]

    def words(self) -> str:
        """One sentence."""
        losses = f"{self.against.after:.4f} against {self.against.before:.4f}, {self.against.words()}"
        photos = counted(self.against.photos, "validation photo")
        if self.is_kept:
            return (
                f"The members' weights are averaged into one network, as fast as one of them: on {photos} its log loss is not worse than "
                f"that of their averaged probabilities ({losses})."
            )
        if self.against.interval.low > 0:
            return (
                f"The members' probabilities are averaged: averaged weights are worse on {photos} (log loss {losses})."
            )
        return (
            f"The members' probabilities are averaged: averaged weights have a higher log loss on {photos} ({self.against.after:.4f}) than "
            f"the members have on average ({np.mean(self.members):.4f}), so that these do not lie in one basin."
        )


def judge_weights(averaged: Rows, members: Sequence[Rows], labels: NDArray[np.int64]) -> WeightsVerdict:
    """Keep averaged weights where no barrier lies between the members, and they are not told to be worse than averaged probabilities.

    Args:
        averaged: Probabilities of the network of averaged weights, `(photos, classes)`.
        members: Of each member.
        labels: `(photos,)`.

    Source: Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis", arXiv:1912.05671 (no barrier: the loss
        between two networks is not above the mean of theirs).
    """
    against = change(np.mean(members, axis=0), averaged, labels)
    losses = tuple(float(photo_log_losses(rows, labels).mean()) for rows in members)
    is_connected = against.after <= float(np.mean(losses))
    return WeightsVerdict(is_connected and against.interval.low <= 0.0, against, losses)


def best_of(members: Sequence[Rows], labels: NDArray[np.int64]) -> int:
    """Position of the member with the lowest mean log loss."""
    return int(np.argmin([photo_log_losses(rows, labels).mean() for rows in members]))


def gain_words(name: str, gain: Change) -> str:
    """What the ensemble gained over its best member, in one sentence."""
    told = "" if gain.interval.high < 0 or gain.interval.low > 0 else "; the interval holds 0, so it may be nothing"
    return (
        f"On {counted(gain.photos, 'validation photo')} its log loss is {gain.after:.4f}, that of its best member ({name}) "
        f"{gain.before:.4f}: {gain.words()}{told}. {gain.right_after:,} photos right, best member {gain.right_before:,}."
    )


def member_entry(values: Mapping[str, Any], log_loss: float | None) -> dict[str, Any]:
    """A member as `metrics.json` has it."""
    return {"run": values["run"], "name": values["name"], "seed": values["seed"], "valid_log_loss": log_loss}
