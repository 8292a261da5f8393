"""What a process does that trains a network together with the one that keeps the run: the same steps, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetunekit.system.progress import Progress
from finetunekit.training.devices import Devices
from finetunekit.training.fit import run_fit
from finetunekit.training.losses import class_weights
from finetunekit.training.prepare_stage import prepare_stage
from finetunekit.training.stage_context import StageContext
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
    """Take part in every stage that is trained by steps, from where the first process begins.

    Raises:
        RunError: If another process is lost, or trains something else.
    """
    plan = context.plan
    devices.check_same("what they train and on which photos", context.outline)
    for number in range(devices.tell(0), len(plan.stages)):
        devices.spread(context.classifier.logits.variables)
        stage = plan.stages[number].config
        if stage.kind == "solve":
            continue
        prepared = prepare_stage(context, number)
        validator = Validator(Unscored(context.num_classes), context.valid, plan.config.train.validation_draws, 0)
        run_fit(
            FitJob(
                stage=stage,
                model=prepared.model,
                rates=prepared.freezing.rates,
                feed=prepared.feed,
                first_epoch=plan.epochs_before(number),
                total_epochs=plan.epochs_before(len(plan.stages)),
                class_weights=class_weights(stage, context.train.labels, context.classes),
                validator=validator,
                sink=_Unkept(),
                progress=Progress(is_quiet=True),
                devices=devices,
            )
        )
