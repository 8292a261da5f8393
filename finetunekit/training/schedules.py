"""Learning rates over the steps of a stage: pure functions of the step, so that a resumed run goes on exactly."""

from __future__ import annotations

import math
from typing import Any

from finetunekit.config.training_sections import OptimizerSection

#: One-cycle: part of the steps that rise, and how much lower the rate begins and ends.
_RISE, _START, _END = 0.3, 1 / 25, 1 / 25 / 1e4


def rate_at(section: OptimizerSection, step: int, steps: int) -> float:
    """Learning rate of one step, for a layer whose multiplier is 1.

    Args:
        section: Rate, schedule and warm-up.
        step: From 0.
        steps: Steps of the whole stage.

    Source: cosine: Loshchilov and Hutter 2017, equation 5 without restarts, arXiv:1608.03983; linear warm-up: Goyal et al. 2017,
    section 2.2, arXiv:1706.02677; one cycle: Smith 2018, section 4.1, arXiv:1803.09820, with the cosine ramps and the numbers of
    torch.optim.lr_scheduler.OneCycleLR.
    """
    schedule, rate = section.schedule, section.learning_rate
    if schedule.name == "one_cycle":
        return rate * _one_cycle(step, steps, _RISE if schedule.warmup is None else schedule.warmup)
    rising = round((schedule.warmup or 0.0) * steps)
    if step < rising:
        return rate * (step + 1) / rising
    if schedule.name == "constant":
        return rate
    return rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))


def build_schedule(section: OptimizerSection, steps: int) -> Any | None:
    """A Keras learning rate schedule for one stage; None where the rate is constant throughout.

    Args:
        section: Rate, schedule and warm-up.
        steps: Steps of the whole stage, early stopping left aside.
    """
    if section.schedule.name == "constant" and not section.schedule.warmup:
        return None
    import keras
    import numpy as np

    # a table: every step's rate is the float that `rate_at` gives, in any graph
    table = np.array([rate_at(section, step, steps) for step in range(steps)], np.float32)

    class TableSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        """Rates by step; beyond the last step the last rate."""

        def __call__(self, step: Any) -> Any:
            last = keras.ops.cast(steps - 1, "int32")
            return keras.ops.take(table, keras.ops.minimum(keras.ops.cast(step, "int32"), last))

    return TableSchedule()


def _one_cycle(step: int, steps: int, rise: float) -> float:
    top, end = rise * steps - 1, steps - 1
    if step <= top:
        return _ramp(_START, 1.0, step / top) if top > 0 else 1.0
    top = max(top, 0.0)
    return _ramp(1.0, _END, (step - top) / (end - top)) if end > top else 1.0


def _ramp(start: float, end: float, part: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))
