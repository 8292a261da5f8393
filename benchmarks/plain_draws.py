"""How many photos the plain script draws; apart from it, so that a process that only waits need not load Keras."""

from __future__ import annotations

import itertools

VALIDATION_STEPS = 12


def expected_draws(photos: int, batch_size: int, steps: int, epochs: int) -> list[int]:
    """Draws of each training epoch where passes of `photos` run on across epochs, the short last batch of a pass included.

    600 photos in batches of 32, 50 steps an epoch: 1584 in the first epoch, 1576 in the next.
    """
    stream = itertools.cycle(_batch_sizes(photos, batch_size))
    return [sum(itertools.islice(stream, steps)) for _ in range(epochs)]


def possible_draws(photos: int, batch_size: int, steps: int) -> set[int]:
    """Draws of one validation of `steps` batches, wherever in a pass it starts: 336 or 360 of 200 photos, 12 batches.

    Keras 3 opens its reader anew for each validation: its first two batches again, then the generator from wherever it had fetched to.
    The number of batches is certain, which of them are short is not.
    """
    sizes = _batch_sizes(photos, batch_size)
    return {sum(itertools.islice(itertools.cycle(sizes), first, first + steps)) for first in range(len(sizes))}


def _batch_sizes(photos: int, batch_size: int) -> list[int]:
    short = photos % batch_size
    return [batch_size] * (photos // batch_size) + ([short] if short else [])
