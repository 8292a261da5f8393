"""What one stage of training is given, and what it tells: values, no loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.sections import Stage
from finetunekit.system.progress import Progress
from finetunekit.training.batches import Feed
from finetunekit.training.callback import Callback
from finetunekit.training.sampling import validation_weights

if TYPE_CHECKING:
    import keras

EPOCH_COLUMNS = (
    "stage",
    "epoch",
    "loss",
    "accuracy",
    "draws",
    "correct",
    "val_loss",
    "val_accuracy",
    "val_draws",
    "val_correct",
    "val_photos",
    "val_photos_correct",
    "learning_rate",
    "seconds",
    "images_per_s",
)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation split, each photo evaluated once and weighted by how often the epoch draws it.

    Attributes:
        forward: Model as it is now → logits `(photos, classes)` float32.
        labels: `(photos,)` int64.
        draws: Photos drawn an epoch; None: each once.
        seed: The run's seed.
    """

    forward: Callable[[], NDArray[np.float32]]
    labels: NDArray[np.int64]
    draws: int | None
    seed: int

    def row(self, epoch: int) -> Row:
        """Columns `val_*` of one epoch, counted from 0."""
        logits = self.forward()
        weights = validation_weights(photos=len(self.labels), draws=self.draws, seed=self.seed, epoch=epoch)
        correct = logits.argmax(axis=1) == self.labels
        return {
            "val_loss": float(np.average(cross_entropy(logits, self.labels), weights=weights)),
            "val_accuracy": float(np.average(correct, weights=weights)),
            "val_draws": int(weights.sum()),
            "val_correct": int(weights[correct].sum()),
            "val_photos": len(self.labels),
            "val_photos_correct": int(correct.sum()),
        }


@dataclass(frozen=True, slots=True)
class StageState:
    """How far a stage came, at the end of one of its epochs: what a resumed run goes on from, beside the weights.

    Attributes:
        epochs: Epochs of the stage that are complete.
        is_over: Whether no further epoch of it is wanted; `Callback.finish` was not called yet.
        optimizer: Every variable of the optimizer in its own order, step count and slots included.
        callbacks: From `callback_arrays`.
    """

    epochs: int
    is_over: bool
    optimizer: Sequence[NDArray[Any]]
    callbacks: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class StageJob:
    """What one stage trains, and whom it tells.

    Attributes:
        stage: Its section of the config.
        model: What is trained: the whole network, or the part after the cut.
        rates: Variable path → rate multiplier, for every variable that trains.
        feed: Its batches.
        validation: Scores it after each epoch.
        first_epoch: Epochs that the config gives to earlier stages, whether or not they stopped early: what an epoch draws depends on
            its number, and never on how long another stage took.
        total_epochs: Epochs of all stages in the config, for the time left.
        keep: Receives each epoch's row once it is complete, and how far the stage is.
        progress: Says how far it is.
        name_photos: Photo indices → how messages name them.
        class_weights: Weight of each class in the loss, `(classes,)` float32; None: every photo counts alike.
        schedule: Keras learning rate schedule, a pure function of the optimizer's step count; None: the stage's constant rate.
        callbacks: What follows the epochs, called in this order.
        resume: Where an earlier process left the stage; the weights are in the model already. None: from its start.
    """

    stage: Stage
    model: keras.Model
    rates: Mapping[str, float]
    feed: Feed
    validation: Validation
    first_epoch: int
    total_epochs: int
    keep: Callable[[Row, StageState], None]
    progress: Progress
    name_photos: Callable[[Sequence[int]], str]
    class_weights: NDArray[np.float32] | None = None
    schedule: Any | None = None
    callbacks: Sequence[Callback] = ()
    resume: StageState | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of each epoch."""
        return len(self.feed.draws.epoch(self.first_epoch).batch_ends)


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log loss of each photo in nats.

    Args:
        logits: `(photos, classes)`.
        labels: `(photos,)`.

    Returns:
        `(photos,)`, computed in float64 by log-sum-exp.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    losses: NDArray[np.float64] = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return losses
