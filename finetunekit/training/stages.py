"""The stages of a run, one after the other, each from where an earlier process left it; a checkpoint after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from finetunekit.config.sections import Stage
from finetunekit.errors import RunFolderError
from finetunekit.models.classifier import Classifier
from finetunekit.models.freezing import leaf_layers, own_variables, rule_lines
from finetunekit.models.layer_table import layer_table
from finetunekit.models.weight_arrays import views
from finetunekit.runs.checkpoint import Checkpoint, save_checkpoint
from finetunekit.runs.folder import EPOCHS, PLAN, FinishedRun
from finetunekit.system.files import append_line, to_csv, to_json, write_whole
from finetunekit.system.memory import free_models
from finetunekit.training.callback import Callback
from finetunekit.training.callbacks import build_callbacks, moving_variables, with_ema_weights
from finetunekit.training.closed_form import run_solve
from finetunekit.training.fit import run_stage
from finetunekit.training.losses import class_weights
from finetunekit.training.prepare_stage import prepare_stage
from finetunekit.training.revert import RevertUnlessBetter, revert_sentence
from finetunekit.training.schedules import build_schedule
from finetunekit.training.stage_context import Prepared, StageContext
from finetunekit.training.stage_job import EPOCH_COLUMNS, Row, StageJob, StageState, Validation, cross_entropy
from finetunekit.types import TRAIN, VALID, FreezeDecision

if TYPE_CHECKING:
    import keras

    from finetunekit.plugins.host import PluginHost


@dataclass
class Training:
    """Trains every stage of a run.

    Attributes:
        context: What the stages share.
        host: Hears of epochs and stages.
        path: The run folder.
        state: Content of `run.json`; gets a `stages` entry for each stage.
        write_state: Writes it.
        earlier: Where another process left the run; None: from the start.
        rows: The epoch log so far.
    """

    context: StageContext
    host: PluginHost
    path: Path
    state: dict[str, Any]
    write_state: Callable[[], None]
    earlier: Checkpoint | None
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changing: set[int] = set()  # variables of the network, by position, that a stage so far may have changed

    def run(self) -> Prepared:
        """Train; see `run_stage` for what it raises.

        Returns:
            The last stage, by which the network is evaluated.
        """
        first = self._take_up(self.earlier) if self.earlier else 0
        write_whole(self.path / EPOCHS, to_csv(self.rows, EPOCH_COLUMNS))
        for number in range(first, len(self.context.plan.config.stages)):
            prepared = prepare_stage(self.context, number)
            self._announce(number, prepared)
            self._changing |= self._thawed(prepared.decision)
            left = self._left_at(number)
            begun = len(self.rows) - (left.epochs if left else 0)
            self._run_stage(self._job(prepared, number, left), prepared, number)
            name = self.context.plan.config.stages[number].name
            self.host.notify("after_stage", stage=name, rows=tuple(self.rows[begun:]), run_path=self.path)
        return prepared

    # ---- one stage ---------------------------------------------------------------------------------------------------------------

    def _run_stage(self, job: StageJob, prepared: Prepared, number: int) -> None:
        if job.stage.kind == "solve":
            self._remember(number, "solve", run_solve(job, self.context, prepared, number))
        else:
            if prepared.cut is not None:
                prepared.predict(self.context.valid, VALID)  # its features are no part of an epoch, nor of what is left
            run_stage(job)
            free_models()  # the optimizer and its slots

    def _remember(self, number: int, key: str, value: Mapping[str, Any]) -> None:
        self.state["stages"][number][key] = dict(value)
        self.write_state()

    def _note(self, number: int, callback: str, record: Mapping[str, Any]) -> None:
        self._remember(number, callback, record)
        chosen = ", ".join(f"{key} {value}" for key, value in record.items())
        self.context.progress.say(f"{callback}: {chosen}")

    def _callbacks(self, prepared: Prepared, number: int) -> tuple[Callback, ...]:
        """What follows the epochs of a stage; what judges it comes last."""
        context, stages = self.context, self.context.plan.config.stages
        callbacks = build_callbacks(stages[number], prepared.model, lambda key, record: self._note(number, key, record))
        if not stages[number].revert_unless_better:
            return callbacks

        def tell(record: Mapping[str, Any]) -> None:
            self._remember(number, "revert", record)
            before = stages[number - 1].name if number else "the untrained head"
            context.progress.say(revert_sentence(stages[number].name, before, record))

        def validate() -> float:
            return float(cross_entropy(prepared.predict(context.valid, VALID), context.valid.labels).mean())

        return (*callbacks, RevertUnlessBetter(moving_variables(prepared.model), validate, tell))

    def _job(self, prepared: Prepared, number: int, left: StageState | None) -> StageJob:
        context, config = self.context, self.context.plan.config
        stage, first_epoch = config.stages[number], sum(stage.epochs for stage in config.stages[:number])
        steps = stage.epochs * len(prepared.feed.draws.epoch(first_epoch).batch_ends)
        callbacks = self._callbacks(prepared, number)
        return StageJob(
            stage=stage,
            model=prepared.model,
            rates=prepared.rates,
            feed=prepared.feed,
            validation=Validation(
                with_ema_weights(callbacks, lambda: prepared.predict(context.valid, VALID)),
                context.valid.labels,
                config.train.validation_draws,
                config.seed,
            ),
            first_epoch=first_epoch,
            total_epochs=sum(stage.epochs for stage in config.stages),
            keep=lambda row, state: self._keep(number, row, state),
            progress=context.progress,
            name_photos=lambda indices: _name_photos(self.path, indices),
            class_weights=class_weights(stage, context.train.labels, self.state["classes"]),
            schedule=build_schedule(stage.optimizer, steps),
            callbacks=callbacks,
            resume=left,
        )

    def _announce(self, number: int, prepared: Prepared) -> None:
        frozen = sum(1 for rate in prepared.decision.values() if rate == 0)
        stages, say = self.context.plan.config.stages, self.context.progress.say
        say(
            f"stage {number + 1} of {len(stages)}, {stages[number].name}: {_length(stages[number])}, "
            f"{frozen} of {len(prepared.decision)} backbone layers frozen"
        )
        for line in rule_lines(prepared.claims, prepared.decision):
            say(line)
        say(f"{prepared.mode}; {self.context.precision}")
        self.state["stages"] = [
            *self.state.get("stages", [])[:number],
            {
                "name": stages[number].name,
                "first_epoch": sum(stage.epochs for stage in stages[:number]),
                "mode": prepared.mode,
                "decision": prepared.decision,
                "trained_variables": prepared.rates,
            },
        ]
        self.write_state()
        layers = layer_table(self.context.classifier, prepared.decision, prepared.claims)
        plan = {**self.context.plan.to_dict(), "layers": layers}
        write_whole(self.path / PLAN, to_json(plan))

    def _keep(self, number: int, row: Row, state: StageState) -> None:
        """The checkpoint comes first: a line of the log that it does not know is trained, and written, again."""
        self.rows.append(row)
        save_checkpoint(self.path, self._checkpoint(number, state))
        append_line(self.path / EPOCHS, to_csv([row], EPOCH_COLUMNS).split("\n", 1)[1])
        self.host.notify("after_epoch", row=row, run_path=self.path)

    # ---- checkpoints -------------------------------------------------------------------------------------------------------------

    def _checkpoint(self, number: int, state: StageState) -> Checkpoint:
        variables = self.context.classifier.logits.variables
        changing = sorted(self._changing)
        values = views([variables[i] for i in changing])
        arrays = {f"weights/{i}": array for i, array in zip(changing, values, strict=True)}
        arrays |= {f"optimizer/{i}": array for i, array in enumerate(state.optimizer)}
        arrays |= {f"callbacks/{key}": array for key, array in state.callbacks.items()}
        return Checkpoint(number, state.epochs, state.is_over, tuple(self.rows), arrays)

    def _take_up(self, checkpoint: Checkpoint) -> int:
        variables = self.context.classifier.logits.variables
        for text, array in checkpoint.part("weights").items():
            self._fits(array, variables, int(text))
            variables[int(text)].assign(array)
            self._changing.add(int(text))
        self.rows = [dict(row) for row in checkpoint.rows]
        self.context.progress.say(f"resumed after epoch {self.rows[-1]['epoch']}")
        return checkpoint.stage

    def _fits(self, array: NDArray[Any], variables: Sequence[Any], number: int) -> None:
        if number >= len(variables) or tuple(variables[number].shape) != array.shape:
            raise RunFolderError(
                f"{self.path}: its checkpoint is of another network than the one of this configuration. Run it anew."
            )

    def _left_at(self, number: int) -> StageState | None:
        checkpoint = self.earlier
        if checkpoint is None or checkpoint.stage != number:
            return None
        return StageState(
            checkpoint.epochs,
            checkpoint.is_over,
            tuple(checkpoint.part("optimizer").values()),
            checkpoint.part("callbacks"),
        )

    def _thawed(self, decision: FreezeDecision) -> set[int]:
        """Every variable but those of layers that the stage freezes: the head's, statistics and the state of dropout are among them."""
        frozen = set(_frozen(self.context.classifier, decision))
        variables: Sequence[keras.Variable] = self.context.classifier.logits.variables
        return {i for i, variable in enumerate(variables) if id(variable) not in frozen}


def _length(stage: Stage) -> str:
    return f"{stage.epochs} epochs" if stage.kind == "fit" else f"{stage.solver} regression in closed form"


def _frozen(classifier: Classifier, decision: FreezeDecision) -> Iterator[int]:
    for path, layer in leaf_layers(classifier.backbone.model):
        if decision[path] == 0:
            yield from (id(variable) for variable in own_variables(layer))


def _name_photos(path: Path, indices: Sequence[int]) -> str:
    names = [row["path"] for row in FinishedRun(path).photos if row["split"] == TRAIN]
    shown = [names[i] for i in indices[:4]]
    return ", ".join(shown) + (f" and {len(indices) - 4} more" if len(indices) > 4 else "")
