"""One stage of training: flags are set, then a new optimizer, compile, epochs, a row for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import RunError
from finetunekit.models.conv_gradient import fast_gradients
from finetunekit.models.folded_norm import folded_norms
from finetunekit.models.weight_arrays import assign, copies, views
from finetunekit.system.formatting import show_duration
from finetunekit.training.batches import Batch, prefetched
from finetunekit.training.callbacks import callback_arrays, moving_variables, restore_callbacks
from finetunekit.training.health_checks import non_finite_loss_error, stuck_line
from finetunekit.training.losses import build_loss, sample_weights
from finetunekit.training.optimizers import build_optimizer, last_rate
from finetunekit.training.schedules import build_schedule
from finetunekit.training.shared_step import SharedStep, shared_layers
from finetunekit.training.stage_job import FitJob, Row, StageState

Step: TypeAlias = Callable[[Batch, NDArray[np.float32] | None], tuple[float, float, float]]
"""Trains on a batch, whose photos weigh this much: loss and cross-entropy in the mean, and the fraction of photos that were right."""


@dataclass
class Throughput:
    """How long an epoch takes once its graphs are built: the first batch of each size builds one.

    Attributes:
        sizes: Of batches whose graph is there.
        seconds: Of this epoch's other steps.
        draws: Of those.
    """

    sizes: set[int]
    seconds: float = 0.0
    draws: int = 0

    def step(self, draws: int, seconds: float) -> None:
        """A step is over."""
        if draws in self.sizes:
            self.seconds += seconds
            self.draws += draws
        self.sizes.add(draws)

    def draw_s(self, seconds: float, draws: int) -> float:
        """Seconds a draw; `seconds` for `draws` where no step tells."""
        return self.seconds / self.draws if self.draws else seconds / draws


def run_fit(job: FitJob) -> tuple[Row, ...]:
    """Train one stage.

    Returns:
        One row an epoch trained here, a value for each of `EPOCH_COLUMNS`; epochs before `resume` have theirs in the log.

    Raises:
        RunError: If a loss is not finite; the model then holds the weights of the last complete epoch.
        KeyboardInterrupt: After the weights of the last complete epoch were put back.
    """
    import keras

    # A model of its own over the same layers: optimizer, gradients and graphs go with it when the stage is over.
    job = replace(job, model=keras.Model(job.model.inputs, job.model.outputs, name=job.model.name))
    variables = job.model.trainable_weights
    schedule = build_schedule(job.stage.optimizer, job.stage.epochs * job.steps_per_epoch)
    with job.devices.scope() if job.devices else nullcontext():
        optimizer = build_optimizer(job.stage.optimizer, variables, job.rates, schedule)
        optimizer.build(variables)
        job.model.compile(
            optimizer=optimizer,
            loss=build_loss(job.stage),
            metrics=[
                keras.metrics.CategoricalAccuracy(name="accuracy"),
                keras.metrics.CategoricalCrossentropy(name="log_loss", from_logits=True),
            ],
        )
    if job.resume is not None:
        _resume(job, optimizer, job.resume)
    if job.devices is not None:
        job.devices.spread([*job.model.variables, *optimizer.variables])
    with fast_gradients(job.model), folded_norms(job.model), _stepping(job) as step:
        rows = _run_epochs(job, step)
    for callback in job.callbacks:
        callback.finish()
    return rows


@contextmanager
def _stepping(job: FitJob) -> Iterator[Step]:
    """The training step: Keras' own on one device."""
    if job.devices is not None:
        step = SharedStep(job.model, build_loss(job.stage), job.devices)
        with shared_layers(job.model, step.rows):
            yield step
        return

    def alone(batch: Batch, weights: NDArray[np.float32] | None) -> tuple[float, float, float]:
        logs = job.model.train_on_batch(batch.x, batch.y, weights, return_dict=True)
        return float(logs["loss"]), float(logs["log_loss"]), float(logs["accuracy"])

    yield alone


def _resume(job: FitJob, optimizer: Any, state: StageState) -> None:
    try:
        assign(optimizer.variables, state.optimizer)
    except ValueError as exc:
        raise RunError(
            "the checkpoint is of another optimizer than the one of this configuration. Run it anew."
        ) from exc
    restore_callbacks(job.callbacks, state.callbacks)


def _run_epochs(job: FitJob, step: Step) -> tuple[Row, ...]:
    rows: list[Row] = []
    moving = moving_variables(job.model)
    whole = copies(moving)
    done, is_over = (job.resume.epochs, job.resume.is_over) if job.resume else (0, False)
    if job.devices is not None:  # the first process knows where an earlier one left the stage, and when it is over
        done, is_over = job.devices.tell(done), bool(job.devices.tell(is_over))
    sizes: set[int] = set()
    while not is_over and done < job.stage.epochs:
        try:
            row, epoch_s = _run_epoch(job, step, job.first_epoch + done, Throughput(sizes))
        except BaseException:
            assign(moving, whole)
            raise
        done += 1
        stuck = stuck_line(job, whole[: len(job.model.trainable_weights)], row) if done == 1 else None
        for kept, now in zip(whole, views(moving), strict=True):
            kept[...] = now
        asked = [callback.after_epoch(row) for callback in job.callbacks]  # every one is told, whatever the first says
        is_over = any(asked)
        rows.append(row)
        job.sink.keep(row, _state(job, done, is_over=is_over))
        job.progress.say(_epoch_line(row, job, epoch_s))
        if stuck:
            job.progress.say(stuck)
        if job.devices is not None:
            is_over = bool(job.devices.tell(is_over))
    if done < job.stage.epochs:
        job.progress.say(f"stage {job.stage.name} stopped after {done} of {job.stage.epochs} epochs")
    return tuple(rows)


def _state(job: FitJob, epochs: int, *, is_over: bool) -> StageState:
    optimizer = views(job.model.optimizer.variables)
    return StageState(epochs, is_over, optimizer, callback_arrays(job.callbacks))


def _run_epoch(job: FitJob, train: Step, epoch: int, pace: Throughput) -> tuple[Row, float]:
    """The epoch's row, and the seconds of an epoch that builds no graphs."""
    started = last = time.perf_counter()
    total = job.feed.draws.draws or job.feed.draws.photos
    loss_sum, log_loss_sum, correct, seen = 0.0, 0.0, 0, 0
    first_step = (epoch - job.first_epoch) * job.steps_per_epoch + 1
    batches = prefetched(job.feed.batches(epoch))
    try:
        for step, batch in enumerate(batches, start=first_step):
            size = len(batch.photos)
            weights = sample_weights(batch.y, job.class_weights)
            loss, log_loss, accuracy = train(batch, weights)
            if not np.isfinite(loss):
                raise non_finite_loss_error(job, epoch, seen, batch.photos.tolist())
            for callback in job.callbacks:
                callback.after_step(step)
            loss_sum += loss * size
            log_loss_sum += log_loss * size
            correct += round(accuracy * size)
            seen += size
            last, before = time.perf_counter(), last
            pace.step(size, last - before)
            left_s = (total * (job.total_epochs - epoch) - seen) * pace.draw_s(last - started, seen)
            pace_words = f"loss {loss_sum / seen:.4f}  {seen / (last - started):.0f} images/s"
            job.progress.show(f"epoch {epoch + 1}/{job.total_epochs}  {pace_words}", seen, total, left_s)
    finally:
        batches.close()
    trained_s = time.perf_counter() - started
    row = {
        "stage": job.stage.name,
        "epoch": epoch + 1,
        "loss": loss_sum / seen,
        "log_loss": log_loss_sum / seen,
        "accuracy": correct / seen,
        "draws": seen,
        "correct": correct,
        **_validate(job, epoch),
        "learning_rate": last_rate(job.model.optimizer),
        "seconds": round(time.perf_counter() - started, 3),
        "images_per_s": round(seen / trained_s, 1),
    }
    return row, row["seconds"] - trained_s + seen * pace.draw_s(trained_s, seen)


def _validate(job: FitJob, epoch: int) -> Row:
    with ExitStack() as weights:
        for callback in job.callbacks:
            weights.enter_context(callback.scored_weights())
        return job.validator.row(epoch)


def _epoch_line(row: Row, job: FitJob, epoch_s: float) -> str:
    left_s = epoch_s * (job.total_epochs - row["epoch"])
    left = f"{show_duration(left_s)} left" if left_s else "done"
    width = len(str(job.total_epochs))
    return (
        f"epoch {row['epoch']:>{width}}/{job.total_epochs}  loss {row['loss']:.4f} acc {row['accuracy']:6.1%}  "
        f"val {row['val_loss']:.4f} acc {row['val_accuracy']:6.1%}  {row['images_per_s']:.0f}/s  {left}"
    )
