"""One stage of training: flags are set, then a new optimizer, compile, epochs, a row for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config import Stage
from finetunekit.errors import RunError
from finetunekit.feeds import Feed, prefetched
from finetunekit.kernels import fast_gradients
from finetunekit.optimizers import build_optimizer
from finetunekit.progress import Progress, show_duration
from finetunekit.stream import validation_weights

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
class StageJob:
    """What one stage trains, and whom it tells.

    Attributes:
        stage: Its section of the config.
        model: What is trained: the whole network, or the part after the cut.
        rates: Variable path → rate multiplier, for every variable that trains.
        feed: Its batches.
        validation: Scores it after each epoch.
        first_epoch: Epochs that earlier stages trained.
        total_epochs: Epochs of all stages, for the time left.
        keep: Receives each epoch's row once it is complete.
        progress: Says how far it is.
        name_photos: Photo indices → how messages name them.
    """

    stage: Stage
    model: keras.Model
    rates: Mapping[str, float]
    feed: Feed
    validation: Validation
    first_epoch: int
    total_epochs: int
    keep: Callable[[Row], None]
    progress: Progress
    name_photos: Callable[[Sequence[int]], str]


def run_stage(job: StageJob) -> tuple[Row, ...]:
    """Train one stage.

    Returns:
        One row an epoch, with the columns of `EPOCH_COLUMNS`.

    Raises:
        RunError: If a loss is not finite; the model then holds the weights of the last complete epoch.
        KeyboardInterrupt: After the weights of the last complete epoch were put back.
    """
    import keras

    variables = job.model.trainable_weights
    optimizer = build_optimizer(job.stage.optimizer, variables, job.rates)
    job.model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    with fast_gradients(job.model):
        return _run_epochs(job)


def _run_epochs(job: StageJob) -> tuple[Row, ...]:
    rows: list[Row] = []
    whole = _snapshot(job.model)
    for number in range(job.stage.epochs):
        try:
            row = _run_epoch(job, job.first_epoch + number)
        except BaseException:
            _restore(job.model, whole)
            raise
        whole = _snapshot(job.model)
        rows.append(row)
        job.keep(row)
        job.progress.say(_epoch_line(row, job))
    return tuple(rows)


def _run_epoch(job: StageJob, epoch: int) -> Row:
    started = time.perf_counter()
    total = job.feed.draws.draws or job.feed.draws.photos
    loss_sum, correct, seen = 0.0, 0, 0
    batches = prefetched(job.feed.batches(epoch))
    try:
        for batch in batches:
            size = len(batch.photos)
            logs = job.model.train_on_batch(batch.x, batch.y, return_dict=True)
            loss = float(logs["loss"])
            if not np.isfinite(loss):
                raise _not_finite(job, epoch, seen, batch.photos.tolist())
            loss_sum += loss * size
            correct += round(float(logs["accuracy"]) * size)
            seen += size
            rate = seen / (time.perf_counter() - started)
            left_s = (total - seen + total * (job.total_epochs - epoch - 1)) / rate
            job.progress.tick(
                f"epoch {epoch + 1}/{job.total_epochs}  {seen}/{total}  loss {loss_sum / seen:.4f}  "
                f"{rate:.0f} images/s  {show_duration(left_s)} left"
            )
    finally:
        batches.close()  # type: ignore[attr-defined]
    trained_s = time.perf_counter() - started
    return {
        "stage": job.stage.name,
        "epoch": epoch + 1,
        "loss": loss_sum / seen,
        "accuracy": correct / seen,
        "draws": seen,
        "correct": correct,
        **job.validation.row(epoch),
        "learning_rate": float(job.model.optimizer.learning_rate),
        "seconds": round(time.perf_counter() - started, 3),
        "images_per_s": round(seen / trained_s, 1),
    }


def _epoch_line(row: Row, job: StageJob) -> str:
    left_s = row["seconds"] * (job.total_epochs - row["epoch"])
    left = f"{show_duration(left_s)} left" if left_s else "done"
    width = len(str(job.total_epochs))
    return (
        f"epoch {row['epoch']:>{width}}/{job.total_epochs}  loss {row['loss']:.4f} acc {row['accuracy']:6.1%}  "
        f"val {row['val_loss']:.4f} acc {row['val_accuracy']:6.1%}  {row['images_per_s']:.0f}/s  {left}"
    )


def _not_finite(job: StageJob, epoch: int, seen: int, photos: Sequence[int]) -> RunError:
    step = seen // job.feed.draws.batch_size + 1
    return RunError(
        f"the loss is not a finite number at epoch {epoch + 1}, step {step} (photos {job.name_photos(photos)}). The weights of "
        f"the last complete epoch are kept. Lower optimizer.learning_rate (now {job.stage.optimizer.learning_rate:g}), or check "
        "pixels.contract."
    )


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


def _snapshot(model: keras.Model) -> list[NDArray[Any]]:
    """Copies of what the stage changes: trained weights and moving statistics."""
    return [variable.numpy().copy() for variable in _moving(model)]


def _restore(model: keras.Model, arrays: Sequence[NDArray[Any]]) -> None:
    for variable, array in zip(_moving(model), arrays, strict=True):
        variable.assign(array)


def _moving(model: keras.Model) -> list[Any]:
    statistics = [
        v for layer in model._flatten_layers() if layer.trainable for v in getattr(layer, "non_trainable_weights", ())
    ]
    return [*model.trainable_weights, *{id(v): v for v in statistics if not v.trainable}.values()]
