"""What follows the epochs of a stage: early stopping, a moving average, part of the way, the way back. Each can be saved and resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.training_sections import EarlyStoppingSection, EmaSection, FitStage, SolveStage
from finetunekit.errors import ConfigError
from finetunekit.models.freezing import own_variables
from finetunekit.models.weight_arrays import Arrays, arrays_of, assign, copies, numbered
from finetunekit.training.stage_record import StageRecord
from finetunekit.training.validation import Validator
from finetunekit.training.verdict import judge

if TYPE_CHECKING:
    import keras


class Callback(Protocol):
    """Follows one stage of training and may end it early.

    It is built for the stage's model before the first step, and rebuilt, then restored, when a run is resumed. Everything it will need
    later has to be in `state()`: a resumed run ends with the same bits only if `restore(state())` on a new one leaves nothing behind.
    """

    name: str
    """Unlike the names of the stage's other callbacks; letters, digits and `_`."""

    def after_step(self, step: int) -> None:
        """A step changed the weights. `step` counts the steps of this stage, from 1, on across epochs."""
        return

    def scored_weights(self) -> AbstractContextManager[None]:
        """While an epoch is validated: the model has the weights that are to be scored, if they are not its own."""
        return nullcontext()

    def after_epoch(self, row: Mapping[str, Any]) -> bool:
        """An epoch was trained and validated; `row` is its line of `epochs.csv`. True ends the stage."""
        return False

    def finish(self) -> None:
        """The stage is over: put into the model the weights that it ends with. Follows from `state()` and the weights alone."""
        ...

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Everything that was learnt so far, as arrays that no later step changes."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state()` gave in another process."""
        ...


def callback_arrays(callbacks: Sequence[Callback]) -> dict[str, NDArray[Any]]:
    """The state of every callback: `<callback>/<key>` → array."""
    return {f"{callback.name}/{key}": array for callback in callbacks for key, array in callback.state().items()}


def restore_callbacks(callbacks: Sequence[Callback], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Give every callback what `callback_arrays` held for it."""
    for callback in callbacks:
        prefix = f"{callback.name}/"
        callback.restore({key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)})


def moving_variables(model: keras.Model) -> list[Any]:
    """What a stage changes: trained weights, then moving statistics of layers that train."""
    layers = [layer for layer in model._flatten_layers(include_self=False) if layer.trainable]
    statistics = {id(v): v for layer in layers for v in own_variables(layer) if not v.trainable}
    return [*model.trainable_weights, *statistics.values()]


def build_callbacks(
    stage: FitStage | SolveStage, model: keras.Model, validator: Validator, record: StageRecord
) -> tuple[Callback, ...]:
    """What follows the epochs of one stage, in the order in which each is called.

    Args:
        stage: Its section of the config.
        model: What is trained, flags set.
        validator: Scores the whole network.
        record: Gets what a callback chose, once the stage is over.

    Raises:
        ConfigError: If weights are to be mixed while BatchNorm statistics move: the statistics of mixed weights are others.
    """
    callbacks = _fit_callbacks(stage, model, record) if stage.kind == "fit" else []
    if stage.revert_unless_better:  # last: what it judges is what the others leave
        callbacks.append(RevertUnlessBetter(moving_variables(model), validator, record))
    return tuple(callbacks)


def _fit_callbacks(stage: FitStage, model: keras.Model, record: StageRecord) -> list[Callback]:
    callbacks: list[Callback] = []
    ema = Ema(stage.ema, model) if stage.ema else None
    if ema:
        callbacks.append(ema)
    if stage.early_stopping:
        callbacks.append(EarlyStopping(stage.early_stopping, model, record, ema))
    if stage.interpolate < 1:
        if len(moving_variables(model)) > len(model.trainable_weights):
            raise ConfigError(
                f"stage '{stage.name}': interpolate: BatchNorm statistics move here, and the mean of them is not the statistics of "
                "the mean weights. Set train_batch_norm: false, or use ema."
            )
        callbacks.append(Interpolation(stage.interpolate, model))
    return callbacks


class Ema(Callback):
    """An exponential moving average of everything that a stage changes.

    Source: Polyak and Juditsky 1992; the decay of the first steps, min(decay, (1 + n) / (10 + n)) after n steps, as in
    tf.train.ExponentialMovingAverage with `num_updates`.
    """

    name = "ema"

    def __init__(self, section: EmaSection, model: keras.Model) -> None:
        import tensorflow as tf

        self._decay, self._steps = section.decay, 0
        self._variables = moving_variables(model)
        self._average = [tf.Variable(v.numpy(), trainable=False) for v in self._variables]
        self._update = tf.function(self._move, autograph=False)

    def _move(self, part: Any) -> None:
        for average, variable in zip(self._average, self._variables, strict=True):
            average.assign_add((variable.value - average) * part)

    def after_step(self, step: int) -> None:
        """See `Callback`."""
        import tensorflow as tf

        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._update(tf.constant(1 - decay, tf.float32))

    def arrays(self) -> Arrays:
        """The average as it is now."""
        return [average.numpy().copy() for average in self._average]

    @contextmanager
    def scored_weights(self) -> Iterator[None]:
        """The average's weights are scored."""
        own = copies(self._variables)
        assign(self._variables, self.arrays())
        try:
            yield
        finally:
            assign(self._variables, own)

    def finish(self) -> None:
        """See `Callback`."""
        assign(self._variables, self.arrays())

    def state(self) -> Mapping[str, NDArray[Any]]:
        """See `Callback`."""
        return {"steps": np.array(self._steps), **numbered("average", self.arrays())}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Callback`."""
        self._steps = int(state["steps"])
        assign(self._average, arrays_of(state, "average"))


class EarlyStopping(Callback):
    """Watches one column of the log; ends the stage after `patience` epochs without a better one, and brings the best back."""

    name = "early_stopping"

    def __init__(
        self, section: EarlyStoppingSection, model: keras.Model, record: StageRecord, ema: Ema | None = None
    ) -> None:
        """Follow a model.

        Args:
            section: What is watched, and for how long.
            model: What is trained.
            record: Gets the best epoch once the stage is over.
            ema: Whose weights are validated; None: those of the model.
        """
        self._section, self._record, self._ema = section, record, ema
        self._variables = moving_variables(model)
        self._best_score, self._best_epoch, self._waited = float("-inf"), 0, 0
        self._best: Arrays = []

    def after_epoch(self, row: Mapping[str, Any]) -> bool:
        """See `Callback`."""
        value = float(row[self._section.monitor])
        score = -value if self._section.monitor == "val_loss" else value
        if self._best_epoch and score <= self._best_score + self._section.min_delta:
            self._waited += 1
            return self._section.patience is not None and self._waited >= self._section.patience
        self._best_score, self._best_epoch, self._waited = score, int(row["epoch"]), 0
        if self._section.restore_best:
            self._best = self._ema.arrays() if self._ema else copies(self._variables)
        return False

    def finish(self) -> None:
        """See `Callback`."""
        if self._best:
            assign(self._variables, self._best)
        found = {"monitor": self._section.monitor, "best_epoch": self._best_epoch, "is_restored": bool(self._best)}
        words = ", ".join(f"{key} {value}" for key, value in found.items())
        self._record.note(self.name, found, f"{self.name}: {words}")

    def state(self) -> Mapping[str, NDArray[Any]]:
        """See `Callback`."""
        counts = np.array([self._best_epoch, self._waited])
        return {"score": np.array(self._best_score), "counts": counts, **numbered("best", self._best)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Callback`."""
        self._best_score = float(state["score"])
        self._best_epoch, self._waited = (int(count) for count in state["counts"])
        self._best = arrays_of(state, "best")


class Interpolation(Callback):
    """Weights on the straight line between those before a stage and those that it reached.

    What was learnt from many photos before is kept in part, so that what is learnt by heart from few counts less.

    Source: Wortsman et al. 2022 (WiSE-FT), section 3, arXiv:2109.01903; 0.5 is what they recommend where nothing is tuned.
    """

    name = "interpolate"

    def __init__(self, share: float, model: keras.Model) -> None:
        """Remember the weights as they are.

        Args:
            share: How far to go, above 0 and at most 1.
            model: What is trained, before its first step.
        """
        self._share, self._variables = share, moving_variables(model)
        self._before = copies(self._variables)

    @contextmanager
    def scored_weights(self) -> Iterator[None]:
        """What the stage would end with if it ended now."""
        own = copies(self._variables)
        self.finish()
        try:
            yield
        finally:
            assign(self._variables, own)

    def finish(self) -> None:
        """See `Callback`."""
        pairs = zip(self._before, copies(self._variables), strict=True)
        assign(self._variables, [before + np.float32(self._share) * (after - before) for before, after in pairs])

    def state(self) -> Mapping[str, NDArray[Any]]:
        """See `Callback`."""
        return numbered("before", self._before)

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Callback`."""
        self._before = arrays_of(state, "before")


class RevertUnlessBetter(Callback):
    """Puts back the weights from before a stage unless the validation photos show that log loss is lower after it."""

    name = "revert_unless_better"

    def __init__(self, variables: Sequence[Any], validator: Validator, record: StageRecord) -> None:
        """Remember the weights and measure what they are worth.

        Args:
            variables: Everything that the stage changes.
            validator: Scores the network as it is.
            record: Gets the verdict when the stage is over.
        """
        self._variables, self._validator, self._record = variables, validator, record
        self._before = copies(variables)
        self._losses = validator.log_losses()

    def finish(self) -> None:
        """Put the former weights back unless the interval of the difference shows that the loss is lower now."""
        verdict = judge(self._losses, self._validator.log_losses())
        if not verdict.is_better:
            assign(self._variables, self._before)
        self._record.judged(verdict, "validation photos")

    def state(self) -> Mapping[str, NDArray[Any]]:
        """See `Callback`."""
        return {"losses": self._losses, **numbered("before", self._before)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Callback`."""
        self._losses = np.asarray(state["losses"], np.float64)
        self._before = arrays_of(state, "before")
