"""Callbacks that a stage can ask for: early stopping with the best epoch, a moving average, part of the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.sections import Stage
from finetunekit.config.training_sections import EarlyStoppingSection, EmaSection
from finetunekit.errors import ConfigError
from finetunekit.models.freezing import own_variables
from finetunekit.models.weight_arrays import Arrays, arrays_of, assign, copies, numbered
from finetunekit.training.callback import Callback

if TYPE_CHECKING:
    import keras


def moving_variables(model: keras.Model) -> list[Any]:
    """What a stage changes: trained weights, then moving statistics of layers that train."""
    layers = [layer for layer in model._flatten_layers(include_self=False) if layer.trainable]
    statistics = {id(v): v for layer in layers for v in own_variables(layer) if not v.trainable}
    return [*model.trainable_weights, *statistics.values()]


def build_callbacks(
    stage: Stage, model: keras.Model, tell: Callable[[str, Mapping[str, Any]], None]
) -> tuple[Callback, ...]:
    """What follows the epochs of one stage, in the order in which each is called.

    Args:
        stage: Its section of the config.
        model: What is trained, flags set.
        tell: Receives, once the stage is over, a callback's name and what it chose, for the record.

    Raises:
        ConfigError: If weights are to be averaged while BatchNorm statistics move: the statistics of averaged weights are others.
    """
    callbacks: list[Callback] = []
    ema = Ema(stage.ema, model) if stage.ema else None
    if ema:
        callbacks.append(ema)
    if stage.early_stopping:
        callbacks.append(EarlyStopping(stage.early_stopping, model, tell, ema.arrays if ema else None))
    if stage.interpolate < 1:
        _check_statistics_stand(stage, "interpolate", model)
        callbacks.append(Interpolation(stage.interpolate, model))
    return tuple(callbacks)


def _check_statistics_stand(stage: Stage, field: str, model: keras.Model) -> None:
    if len(moving_variables(model)) > len(model.trainable_weights):
        raise ConfigError(
            f"stage '{stage.name}': {field}: BatchNorm statistics move here, and the mean of them is not the statistics of "
            "the mean weights. Set train_batch_norm: false, or use ema."
        )


def with_ema_weights(callbacks: Sequence[Callback], forward: Callable[[], NDArray[np.float32]]) -> Callable[[], Any]:
    """Validation as it is to be done: of the moving average where there is one, otherwise of the model as it is."""
    averages = [callback for callback in callbacks if isinstance(callback, Ema)]
    if not averages:
        return forward

    def with_average() -> NDArray[np.float32]:
        with averages[0].in_model():
            return forward()

    return with_average


class Ema:
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

    def after_epoch(self, row: Mapping[str, Any]) -> bool:
        """See `Callback`."""
        return False

    def arrays(self) -> Arrays:
        """The average as it is now."""
        return [average.numpy().copy() for average in self._average]

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """The model has the average's weights for a while."""
        own = copies(self._variables)
        assign(self._variables, self.arrays())
        try:
            yield
        finally:
            assign(self._variables, own)

    def finish(self) -> None:
        """See `Callback`."""
        assign(self._variables, self.arrays())

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Callback`."""
        return {"steps": np.array(self._steps), **numbered("average", self.arrays())}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Callback`."""
        self._steps = int(state["steps"])
        assign(self._average, arrays_of(state, "average"))


class EarlyStopping:
    """Watches one column of the log; ends the stage after `patience` epochs without a better one, and brings the best back."""

    name = "early_stopping"

    def __init__(
        self,
        section: EarlyStoppingSection,
        model: keras.Model,
        tell: Callable[[str, Mapping[str, Any]], None],
        weights: Callable[[], Arrays] | None = None,
    ) -> None:
        """Follow a model.

        Args:
            section: What is watched, and for how long.
            model: What is trained.
            tell: Receives the best epoch once the stage is over.
            weights: Gives the weights that were validated; None: those of the model.
        """
        self._section, self._tell = section, tell
        self._variables = moving_variables(model)
        self._weights = weights or (lambda: copies(self._variables))
        self._best_score, self._best_epoch, self._waited = float("-inf"), 0, 0
        self._best: Arrays = []

    def after_step(self, step: int) -> None:
        """See `Callback`."""

    def after_epoch(self, row: Mapping[str, Any]) -> bool:
        """See `Callback`."""
        value = float(row[self._section.monitor])
        score = -value if self._section.monitor == "val_loss" else value
        if self._best_epoch and score <= self._best_score + self._section.min_delta:
            self._waited += 1
            return self._section.patience is not None and self._waited >= self._section.patience
        self._best_score, self._best_epoch, self._waited = score, int(row["epoch"]), 0
        self._best = self._weights() if self._section.restore_best else []
        return False

    def finish(self) -> None:
        """See `Callback`."""
        if self._best:
            assign(self._variables, self._best)
        record = {"monitor": self._section.monitor, "best_epoch": self._best_epoch, "is_restored": bool(self._best)}
        self._tell(self.name, record)

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Callback`."""
        counts = np.array([self._best_epoch, self._waited])
        return {"score": np.array(self._best_score), "counts": counts, **numbered("best", self._best)}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Callback`."""
        self._best_score = float(state["score"])
        self._best_epoch, self._waited = (int(count) for count in state["counts"])
        self._best = arrays_of(state, "best")


class Interpolation:
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

    def after_step(self, step: int) -> None:
        """See `Callback`."""

    def after_epoch(self, row: Mapping[str, Any]) -> bool:
        """See `Callback`."""
        return False

    def finish(self) -> None:
        """See `Callback`."""
        pairs = zip(self._before, copies(self._variables), strict=True)
        assign(self._variables, [before + np.float32(self._share) * (after - before) for before, after in pairs])

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Callback`."""
        return numbered("before", self._before)

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Callback`."""
        self._before = arrays_of(state, "before")
