"""What a process does that trains a network together with the one that keeps the run: the same steps, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.system.progress import Progress
from finetunekit.training.devices import END, FIT, Devices
from finetunekit.training.fit import run_fit
from finetunekit.training.losses import class_weights
from finetunekit.training.prepare_stage import prepare_stage
from finetunekit.training.stage_context import Prepared, StageContext
from finetunekit.training.stage_job import FitJob, Row, StageState
from finetunekit.training.step_timing import Unscored
from finetunekit.training.validation import Validator


@dataclass(frozen=True, slots=True)
class _Unkept:
    """Epochs are kept by the first process."""

    def keep(self, row: Row, state: StageState) -> None:
        return

    def name_photos(self, indices: Sequence[int]) -> str:
        return str(list(indices))


def train_along(context: StageContext, devices: Devices) -> None:
    """Take part in everything that the first process trains by steps.

    Raises:
        RunError: If another process is lost, or trains something else.
    """
    devices.check_same("what they train and on which photos", context.outline)
    what, _ = devices.agree(END)
    while what != END:
        number = what
        devices.spread(context.classifier.logits.variables)
        prepared = prepare_stage(context, number)
        while (what := (told := devices.agree(END))[0]) == FIT:
            _fit(context, prepared, number, told[1])


def _fit(context: StageContext, prepared: Prepared, number: int, rows: NDArray[np.int64] | None) -> None:
    plan = context.plan
    stage = plan.stages[number].config
    assert stage.kind == "fit"  # no other is trained by steps
    labels = context.train.labels if rows is None else context.train.labels[rows]
    first_epoch = plan.epochs_before(number)
    job = FitJob(
        stage=stage,
        model=prepared.model,
        rates=prepared.freezing.rates,
        feed=prepared.feed if rows is None else prepared.feed.of(rows),
        first_epoch=first_epoch,
        total_epochs=first_epoch + stage.epochs,
        class_weights=class_weights(stage, labels, context.classes),
        validator=Validator(Unscored(context.num_classes), context.valid, None, 0),
        sink=_Unkept(),
        progress=Progress(is_quiet=True),
        devices=context.devices,
    )
    run_fit(job)
