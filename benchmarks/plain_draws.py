"""How many photos the plain script draws; apart from it, so that a process that only waits need not load Keras."""

from __future__ import annotations

import itertools

VALIDATION_STEPS = 12


def expected_draws(photos: int, batch_size: int, steps: int, epochs: int) -> list[int]:
    """Draws of each epoch where passes of `photos` run on across epochs, the short last batch of a pass included.

    600 photos in batches of 32, 50 steps an epoch: 1584 in the first epoch, 1576 in the next.
    """
    sizes = [batch_size] * (photos // batch_size) + ([photos % batch_size] if photos % batch_size else [])
    stream = itertools.cycle(sizes)
    return [sum(itertools.islice(stream, steps)) for _ in range(epochs)]
