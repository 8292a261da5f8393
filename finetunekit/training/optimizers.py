"""Keras optimizers with a rate multiplier for each variable.

Scaling gradients does nothing under Adam, whose step does not depend on their size; the rate itself is scaled instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finetunekit.config.training_sections import OptimizerSection

if TYPE_CHECKING:
    import keras


def build_optimizer(
    section: OptimizerSection,
    variables: Sequence[keras.Variable],
    rates: Mapping[str, float],
    schedule: Any | None = None,
) -> Any:
    """A new optimizer for one stage.

    Args:
        section: Name, rate and the rest.
        variables: What will train, in the order of `model.trainable_weights`.
        rates: Variable path → multiplier of the learning rate.
        schedule: Keras learning rate schedule; None: the section's rate throughout.

    Returns:
        A Keras optimizer; plain where every multiplier is 1.
    """
    import keras

    multipliers = [rates[v.path] for v in variables]
    base = _one_pass_sgd() if section.name == "sgd" else keras.optimizers.AdamW
    kind = base if all(m == 1 for m in multipliers) else _with_multipliers(base, multipliers)
    decay = section.weight_decay or None
    rate = section.learning_rate if schedule is None else schedule
    clip = section.clip_norm
    if section.name == "sgd":
        return kind(rate, momentum=section.momentum, weight_decay=decay, global_clipnorm=clip)
    return kind(rate, weight_decay=section.weight_decay, global_clipnorm=clip)


def last_rate(optimizer: Any) -> float:
    """Learning rate of the step that was taken last, for a layer whose multiplier is 1."""
    rate = optimizer._learning_rate
    is_schedule = callable(rate) and not hasattr(rate, "assign")
    return float(rate(optimizer.iterations.value - 1)) if is_schedule else float(optimizer.learning_rate.numpy())


def _one_pass_sgd() -> Any:
    """Keras' SGD, to the same bits, with momentum in one pass over the weights: Keras' own writes three arrays of their size in between."""
    import keras
    import tensorflow as tf

    class OnePassSGD(keras.optimizers.SGD):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> Any:
            if self.momentum == 0 or isinstance(gradient, tf.IndexedSlices):
                return super().update_step(gradient, variable, learning_rate)
            slot = self.momentums[self._get_variable_index(variable)]
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=variable.handle,
                accum=slot.value.handle,
                lr=tf.cast(learning_rate, variable.dtype),
                grad=tf.cast(gradient, variable.dtype),
                momentum=tf.cast(self.momentum, variable.dtype),
            )

    return OnePassSGD


def _with_multipliers(base: Any, multipliers: Sequence[float]) -> Any:
    """A subclass whose step and weight decay use `learning_rate * multiplier` of each variable."""

    class LayerWise(base):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> Any:
            return super().update_step(
                gradient, variable, learning_rate * multipliers[self._get_variable_index(variable)]
            )

        def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
            if not self.weight_decay:
                return
            for variable in variables:
                if self._use_weight_decay(variable):
                    rate = self.learning_rate * self.weight_decay * multipliers[self._get_variable_index(variable)]
                    variable.assign(variable * (1 - rate))

    LayerWise.__name__ = f"LayerWise{base.__name__}"
    return LayerWise
