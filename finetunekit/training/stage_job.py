"""What one stage is given, and what it tells: values, no loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.training_sections import FitStage, SolveStage
from finetunekit.system.progress import Progress
from finetunekit.training.batches import Feed
from finetunekit.training.callbacks import Callback
from finetunekit.training.devices import Devices
from finetunekit.training.validation import Validator

if TYPE_CHECKING:
    import keras

Row = dict[str, Any]


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


class EpochSink(Protocol):
    """Where the epochs of a stage go."""

    def keep(self, row: Row, state: StageState) -> None:
        """An epoch is complete: its line of the log, and how far the stage is."""
        ...

    def name_photos(self, indices: Sequence[int]) -> str:
        """How messages name training photos."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StageJob:
    """What any stage needs.

    Attributes:
        first_epoch: Epochs that the config gives to earlier stages, whether or not they stopped early: what an epoch draws depends on
            its number, and never on how long another stage took.
        validator: Scores the network after each epoch.
        sink: Receives each epoch.
        progress: Says how far it is.
        callbacks: What follows the epochs, called in this order.
        resume: Where an earlier process left the stage; the weights are in the model already. None: from its start.
    """

    first_epoch: int
    validator: Validator
    sink: EpochSink
    progress: Progress
    callbacks: Sequence[Callback] = ()
    resume: StageState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveJob(StageJob):
    """What a stage that is solved needs.

    Attributes:
        stage: Its section of the config.
    """

    stage: SolveStage


@dataclass(frozen=True, slots=True, kw_only=True)
class FitJob(StageJob):
    """What a stage of gradient descent needs.

    Attributes:
        stage: Its section of the config.
        model: What is trained: the whole network, or the part after the cut.
        rates: Variable path → rate multiplier, for every variable that trains.
        feed: Its batches.
        total_epochs: Epochs of all stages in the config, for the time left.
        class_weights: Weight of each class in the loss, `(classes,)` float32; None: every photo counts alike.
        devices: What trains it together, under whose scope the model was built; None: one device.
    """

    stage: FitStage
    model: keras.Model
    rates: Mapping[str, float]
    feed: Feed
    total_epochs: int
    class_weights: NDArray[np.float32] | None = None
    devices: Devices | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of each epoch."""
        return len(self.feed.draws.epoch(self.first_epoch).batch_ends)
