"""The validation photos, looked at after each epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.statistics import logit_log_losses
from finetunekit.training.sampling import validation_weights
from finetunekit.types import VALID


class Network(Protocol):
    """Answers for photos as it is now."""

    def predict(self, photos: DecodedPhotos, what: str, /) -> NDArray[np.float32]:
        """Logits `(photos, classes)`; `what` is how messages call the photos."""
        ...


@dataclass(frozen=True, slots=True)
class Validator:
    """Scores a network on the validation photos.

    Attributes:
        network: What is scored.
        photos: The validation split.
        draws: Photos drawn an epoch; None: each once.
        seed: The run's seed.
    """

    network: Network
    photos: DecodedPhotos
    draws: int | None
    seed: int

    def row(self, epoch: int) -> dict[str, Any]:
        """Columns `val_*` of one epoch, counted from 0: each photo is looked at once, and weighs as often as the epoch draws it."""
        logits, labels = self.network.predict(self.photos, VALID), self.photos.labels
        weights = validation_weights(photos=len(labels), draws=self.draws, seed=self.seed, epoch=epoch)
        correct = logits.argmax(axis=1) == labels
        return {
            "val_loss": float(np.average(logit_log_losses(logits, labels), weights=weights)),
            "val_accuracy": float(np.average(correct, weights=weights)),
            "val_draws": int(weights.sum()),
            "val_correct": int(weights[correct].sum()),
            "val_photos": len(labels),
            "val_photos_correct": int(correct.sum()),
        }

    def log_losses(self) -> NDArray[np.float64]:
        """Log loss of each photo in nats, `(photos,)`."""
        return logit_log_losses(self.network.predict(self.photos, VALID), self.photos.labels)
