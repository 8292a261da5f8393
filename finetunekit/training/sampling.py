"""(seed, epoch, position) → photo and augmentation key. Pure: any position is had without those before it.

An epoch always starts a fresh pass over its split. `draws` beyond the split wrap around into further passes,
each a new permutation, and the last batch of a pass may be short: a batch never spans two passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import RunError
from finetunekit.system.keyed_random import derive_keys


@dataclass(frozen=True, slots=True, eq=False)
class EpochDraws:
    """What one epoch trains on, in order.

    Attributes:
        photo: Index of the photo of each draw, `(draws,)` int64 in [0, photos).
        key: Augmentation key of each draw where every view is a fresh one, `(draws,)` int64.
        batch_ends: Position after the last draw of each batch, `(batches,)` int64; the last is `draws`.
    """

    photo: NDArray[np.int64]
    key: NDArray[np.int64]
    batch_ends: NDArray[np.int64]

    def batches(self, first: int = 0) -> Iterator[slice]:
        """Slices of the draws, batch by batch.

        Args:
            first: Batch to start with, from 0; for resuming inside an epoch.
        """
        starts = np.concatenate([[0], self.batch_ends[:-1]])
        for start, end in zip(starts[first:], self.batch_ends[first:], strict=True):
            yield slice(int(start), int(end))


def draw_epoch(*, photos: int, draws: int | None, batch_size: int, seed: int, view_seed: int, epoch: int) -> EpochDraws:
    """Decide which photos one training epoch draws, with which keys, in which batches.

    Args:
        photos: Photos in the split, at least 1.
        draws: Photos drawn in the epoch, wrapping around passes; None: each photo once.
        batch_size: Photos a batch, at least 1.
        seed: Drives the permutations.
        view_seed: Drives the keys; a key is a function of (view_seed, epoch, position).
        epoch: Number of the epoch in the run, from 0, counted on across stages.

    Returns:
        The draws of the epoch.

    Raises:
        RunError: If a count is below 1.
    """
    draws = photos if draws is None else draws
    _check_counts(photos=photos, draws=draws, batch_size=batch_size)
    key = derive_keys(view_seed, "fresh view", epoch, np.arange(draws))
    return EpochDraws(_drawn("train", photos, draws, seed, epoch), key, _batch_ends(photos, draws, batch_size))


def validation_weights(*, photos: int, draws: int | None, seed: int, epoch: int) -> NDArray[np.int64]:
    """Count how often each photo is drawn in one epoch's validation.

    Validation photos never change, so evaluating each once, weighted, gives the figures of evaluating every draw.

    Args:
        photos: Photos in the split, at least 1.
        draws: Photos drawn, wrapping around passes; None: each photo once.
        seed: Drives the permutations.
        epoch: Number of the epoch in the run, from 0.

    Returns:
        Weights, `(photos,)` int64 >= 0, their sum is `draws`.

    Raises:
        RunError: If a count is below 1.
    """
    draws = photos if draws is None else draws
    _check_counts(photos=photos, draws=draws)
    return np.bincount(_drawn("validation", photos, draws, seed, epoch), minlength=photos).astype(np.int64)


def bank_keys(view_seed: int, photos: int, views: int, photo_ids: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Keys of the views in a bank: a function of (view_seed, photo, view number) only.

    Args:
        view_seed: Drives the keys.
        photos: Photos in the split, at least 1.
        views: Views of each photo, at least 1.
        photo_ids: What identifies each photo, `(photos,)` int64, such as 64 bits of the hash of its bytes:
            then adding, removing or renaming photos leaves the views of the others as they are, and their
            cached features valid. None: its position.

    Returns:
        Keys, `(photos, views)` int64.

    Raises:
        RunError: If a count is below 1, or `photo_ids` has another length.
    """
    _check_counts(photos=photos, views=views)
    ids = np.arange(photos) if photo_ids is None else photo_ids
    if ids.shape != (photos,):
        raise RunError(f"photo_ids: expected {photos} identities, one a photo, received the shape {ids.shape}.")
    return derive_keys(view_seed, "bank view", ids[:, np.newaxis], np.arange(views))


def bank_views(
    *,
    photos: int,
    draws: int | None,
    views: int,
    seed: int,
    epoch: int,
    visits: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Decide which view of its photo each draw of `draw_epoch` uses.

    Each photo's views are used without replacement until all were used, counted on across epochs: first as they are numbered, which is
    as good an order as any since a view's key is drawn at random, then in a new order each time. So a run that never comes to the end of
    its views draws the same whatever their number, and needs no more than `views_drawn` of them.

    Args:
        photos: Photos in the split, at least 1.
        draws: As given to `draw_epoch`.
        views: Views of each photo, at least 1.
        seed: As given to `draw_epoch`; it drives the order of the views too.
        epoch: Number of the epoch in the run, from 0.
        visits: `count_visits` of the same arguments, where the caller has it at hand; None: counted here.

    Returns:
        View numbers, `(draws,)` int64 in [0, views).

    Raises:
        RunError: If a count is below 1.
    """
    draws = photos if draws is None else draws
    _check_counts(photos=photos, draws=draws, views=views)
    visits = count_visits(photos=photos, draws=draws, seed=seed, epoch=epoch) if visits is None else visits
    position = np.arange(draws)
    photo = _drawn("train", photos, draws, seed, epoch)
    # A pass holds each photo at most once: the pass's number is how often it was drawn before in this epoch.
    turn, index = np.divmod(visits[photo] + position // photos, views)
    view = index.astype(np.int64)
    (again,) = np.nonzero(turn)
    order = derive_keys(seed, "view order", photo[again, np.newaxis], turn[again, np.newaxis], np.arange(views))
    view[again] = np.argsort(order, axis=1, kind="stable")[np.arange(len(again)), index[again]]
    return view


def views_drawn(*, photos: int, draws: int | None, views: int, seed: int, epochs: int) -> int:
    """Count the views of a bank that `bank_views` draws in the epochs before `epochs`: those numbered below the count.

    Args:
        photos: Photos in the split, at least 1.
        draws: As given to `draw_epoch`.
        views: Views of each photo, at least 1.
        seed: As given to `draw_epoch`.
        epochs: Number of epochs, at least 1.

    Returns:
        From 1 to `views`.

    Raises:
        RunError: If a count is below 1.
    """
    _check_counts(views=views, epochs=epochs)
    return min(views, int(count_visits(photos=photos, draws=draws, seed=seed, epoch=epochs).max()))


def count_visits(*, photos: int, draws: int | None, seed: int, epoch: int) -> NDArray[np.int64]:
    """Count how often each photo was drawn in all epochs before `epoch`.

    Args:
        photos: Photos in the split, at least 1.
        draws: As given to `draw_epoch`.
        seed: As given to `draw_epoch`.
        epoch: Number of the epoch in the run, from 0.

    Returns:
        Counts, `(photos,)` int64 >= 0.

    Raises:
        RunError: If a count is below 1.
    """
    draws = photos if draws is None else draws
    _check_counts(photos=photos, draws=draws)
    passes, rest = divmod(draws, photos)
    visits = np.full(photos, epoch * passes, np.int64)
    for earlier in range(epoch if rest else 0):
        visits[_order("train", photos, seed, earlier, np.array([passes]))[0, :rest]] += 1
    return visits


def _drawn(split: str, photos: int, draws: int, seed: int, epoch: int) -> NDArray[np.int64]:
    passes = np.arange(-(-draws // photos))
    return _order(split, photos, seed, epoch, passes).reshape(-1)[:draws]


def _order(split: str, photos: int, seed: int, epoch: int, passes: NDArray[np.int64]) -> NDArray[np.int64]:
    """One permutation a pass, `(passes, photos)`: sorted keys, as numpy's shuffle may change with its version."""
    keys = derive_keys(seed, "order", split, epoch, passes[:, np.newaxis], np.arange(photos))
    return np.argsort(keys, axis=1, kind="stable").astype(np.int64)


def _batch_ends(photos: int, draws: int, batch_size: int) -> NDArray[np.int64]:
    within_pass = np.append(np.arange(batch_size, photos, batch_size), photos)
    passes = np.arange(-(-draws // photos)) * photos
    ends = (passes[:, np.newaxis] + within_pass).reshape(-1)
    return np.append(ends[ends < draws], draws).astype(np.int64)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise RunError(f"{name}: {count} is too few to draw from; at least 1 is needed.")
