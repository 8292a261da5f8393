"""What is added to the plain script so that it can be trusted: its draws counted inside the model, its epochs timed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import keras
from common import Epoch
from plain_draws import expected_draws, possible_draws


class Draws(keras.metrics.Metric):  # type: ignore[misc]
    """Photos that steps really saw since the last reset; what a generator gave is more, since Keras fetches ahead."""

    def __init__(self) -> None:
        super().__init__(name="draws", dtype="float32")
        self.seen = self.add_weight(name="seen", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch."""
        self.seen.assign_add(keras.ops.cast(keras.ops.shape(y_true)[0], "float32"))

    def result(self) -> Any:
        """Photos so far."""
        return self.seen + 0.0


class Timing(keras.callbacks.Callback):  # type: ignore[misc]
    """Training and validation of each epoch, apart."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[Epoch] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Training starts."""
        self.began = time.perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:
        """Training ends, validation starts."""
        self.trained = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Validation has ended."""
        assert logs is not None  # Keras gives every epoch's logs
        ended = time.perf_counter()
        draws, val_draws = round(float(logs["draws"])), round(float(logs["val_draws"]))
        self.epochs.append(Epoch(self.trained - self.began, ended - self.trained, draws, val_draws))


def check_draws(epochs: Sequence[Epoch], train: Any, valid: Any, steps: int, validation_steps: int) -> None:
    """Refuse a comparison with a script that did less than the experiment.

    Raises:
        AssertionError: If an epoch's draws are not those of the experiment.
    """
    trained, validated = [epoch.draws for epoch in epochs], [epoch.validation_draws for epoch in epochs]
    expected = expected_draws(train.n, train.batch_size, steps, len(epochs))
    if trained != expected:
        raise AssertionError(f"training draws {trained}, expected {expected}: this is another experiment")
    possible = possible_draws(valid.n, valid.batch_size, validation_steps)
    if not set(validated) <= possible:
        raise AssertionError(f"validation draws {validated}, possible {sorted(possible)}: this is another experiment")
