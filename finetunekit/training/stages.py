"""The stages of a run, one after the other, each from where an earlier process left it; a checkpoint after every epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetunekit.config.training_sections import FitStage, SolveStage
from finetunekit.models.freezing import rule_lines
from finetunekit.models.layer_table import layer_table
from finetunekit.runs.folder import PLAN, FinishedRun
from finetunekit.runs.run_record import RunRecord
from finetunekit.statistics import wilson_interval
from finetunekit.system.files import to_json, write_whole
from finetunekit.system.formatting import counted, show_expected, show_percent
from finetunekit.system.memory import free_models
from finetunekit.training.callbacks import build_callbacks
from finetunekit.training.cross_fit import cross_fit
from finetunekit.training.devices import END, FIT
from finetunekit.training.fit import run_fit
from finetunekit.training.losses import class_weights
from finetunekit.training.prepare_stage import prepare_stage
from finetunekit.training.run_log import RunLog
from finetunekit.training.solve import run_solve
from finetunekit.training.stage_context import Prepared, StageContext
from finetunekit.training.stage_job import FitJob, Row, SolveJob, StageState
from finetunekit.training.stage_record import UNTRAINED, StageRecord
from finetunekit.training.time_left import Pace, pace_of
from finetunekit.training.validation import Validator
from finetunekit.types import VALID

if TYPE_CHECKING:
    from finetunekit.runs.events import RunEvents


@dataclass(frozen=True, slots=True)
class Training:
    """Trains every stage of a run.

    Attributes:
        context: What the stages share.
        events: Hear of stages.
        record: The run's; gets a `stages` entry for each stage.
        log: Gets the epochs.
        gate: Called before anything is said of a stage; it may refuse to go on.
    """

    context: StageContext
    events: RunEvents
    record: RunRecord
    log: RunLog
    gate: Callable[[], None]

    def run(self) -> Prepared:
        """Train; see `run_fit` and `run_solve` for what it raises.

        Returns:
            The last stage, by which the network is evaluated.
        """
        stages, log = self.context.plan.stages, self.log
        log.take_up()
        if log.rows:
            self.context.progress.say(f"resumed after epoch {log.rows[-1]['epoch']}")
        devices = self.context.devices
        if devices is not None:
            devices.check_same("what they train and on which photos", self.context.outline)
        for number in range(log.stage, len(stages)):
            if devices is not None:  # what an earlier stage, or an earlier process, left
                devices.agree(number)
                devices.spread(self.context.classifier.logits.variables)
            started = time.perf_counter()
            prepared = prepare_stage(self.context, number)
            made_s = sum(prepared.extract.batch_s) if prepared.extract else 0.0
            graphs_s = time.perf_counter() - started - made_s
            self.gate()
            record = self._announce(number, prepared)
            self.events.stage_began()
            left = log.begin_stage(number, prepared.freezing.decision)
            begun = len(log.rows) - (left.epochs if left else 0)
            if left is not None or self._pays(number, prepared, record):
                self._run_stage(number, prepared, record, left)
            rows = tuple(log.rows[begun:])
            self.events.after_stage(record.name, rows)
            self._say_so_far(number, rows, pace_of(prepared, graphs_s))
        if devices is not None:
            devices.agree(END)
        return prepared

    def _say_so_far(self, number: int, rows: Sequence[Row], pace: Pace | None) -> None:
        """What a probe answers already, where stages follow that take far longer, and about how long they will take."""
        following = self.context.plan.stages[number + 1 :]
        if self.context.plan.stages[number].config.kind != "solve" or not rows or not following:
            return
        right, photos = int(rows[-1]["val_photos_correct"]), int(rows[-1]["val_photos"])
        names = " and ".join(stage.config.name for stage in following)
        numbers = range(number + 1, len(self.context.plan.stages))
        left = f" for {pace.words(self.context, numbers)}" if pace else ""
        self.context.progress.say(
            f"so far: {show_percent(right / photos)} ({show_expected(wilson_interval(right, photos))}) of "
            f"{counted(photos, 'validation photo')} right; {names} {'goes' if len(following) == 1 else 'go'} on{left}"
        )

    def _pays(self, number: int, prepared: Prepared, record: StageRecord) -> bool:
        """Whether a stage that is tried first is worth running; so is every other."""
        stage = self.context.plan.stages[number].config
        if stage.kind == "solve" or stage.cross_fit is None:
            return True
        solved = self.record.state["stages"][number - 1]["solve"]
        verdict = cross_fit(self.context, prepared, number, solved["penalties"])
        record.judged(verdict, "training photos, each left out of the training that it judges")
        return verdict.is_better

    def _run_stage(self, number: int, prepared: Prepared, record: StageRecord, left: StageState | None) -> None:
        context, plan = self.context, self.context.plan
        stage, train = plan.stages[number].config, plan.config.train
        validator = Validator(prepared, context.valid, train.validation_draws, plan.config.seed)
        callbacks = build_callbacks(stage, prepared.model, validator, record)
        if stage.kind == "solve":
            solve = SolveJob(
                stage=stage,
                first_epoch=plan.epochs_before(number),
                validator=validator,
                sink=self.log,
                progress=context.progress,
                callbacks=callbacks,
                resume=left,
            )
            record.note("solve", run_solve(solve, context, prepared, number))
            return
        if prepared.cut is not None:
            prepared.predict(context.valid, VALID)  # its features are no part of an epoch, nor of what is left
        fit = FitJob(
            stage=stage,
            model=prepared.model,
            rates=prepared.freezing.rates,
            feed=prepared.feed,
            first_epoch=plan.epochs_before(number),
            total_epochs=plan.epochs_before(len(plan.stages)),
            class_weights=class_weights(stage, context.train.labels, self.record.state["classes"]),
            validator=validator,
            sink=self.log,
            progress=context.progress,
            callbacks=callbacks,
            resume=left,
            devices=context.devices,
        )
        if context.devices is not None:
            context.devices.agree(FIT)
        run_fit(fit)
        free_models()  # the optimizer and its slots

    def _announce(self, number: int, prepared: Prepared) -> StageRecord:
        plan, say, freezing = self.context.plan, self.context.progress.say, prepared.freezing
        stage = plan.stages[number].config
        frozen = sum(1 for rate in freezing.decision.values() if rate == 0)
        say(
            f"stage {number + 1} of {len(plan.stages)}, {stage.name}: {_length(stage)}, "
            f"{frozen} of {len(freezing.decision)} backbone layers frozen"
        )
        for line in rule_lines(freezing.claims, freezing.decision):
            say(line)
        say(f"{prepared.mode}; {self.context.precision}")
        before = plan.stages[number - 1].config.name if number else UNTRAINED
        record = StageRecord(self.record, number, stage.name, before, self.context.progress)
        record.open(
            first_epoch=plan.epochs_before(number),
            mode=prepared.mode,
            decision=freezing.decision,
            trained_variables=freezing.rates,
        )
        layers = layer_table(self.context.classifier, freezing.decision, freezing.claims)
        asked = FinishedRun(
            self.record.path
        ).plan  # which names photos and weights where they lay when the run was asked for
        write_whole(self.record.path / PLAN, to_json({**asked, "layers": layers}))
        return record


def _length(stage: FitStage | SolveStage) -> str:
    return (
        f"{stage.epochs} epochs"
        if stage.kind == "fit"
        else f"{stage.solver} regression, solved and not trained by steps"
    )
