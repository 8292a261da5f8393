"""Whether a stage pays on photos that it has not seen: it is trained without each fold of the training photos, and scored on that fold.

Validation photos are often too few to tell. Training photos tell as much as they are many, where each is scored by a training that left it
out: head and stage both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.training_sections import FitStage, SolveStage
from finetunekit.errors import RunError
from finetunekit.models.linear_probe.cross_validation import Recipe, fit_chosen
from finetunekit.models.linear_probe.linear import Mixture
from finetunekit.models.weight_arrays import assign, copies
from finetunekit.runs.run_record import RunRecord
from finetunekit.statistics import photo_log_losses, softmax, stratified_folds
from finetunekit.system.formatting import counted
from finetunekit.system.memory import free_models
from finetunekit.system.progress import Progress
from finetunekit.training.callbacks import build_callbacks
from finetunekit.training.devices import FIT
from finetunekit.training.fit import run_fit
from finetunekit.training.losses import class_weights
from finetunekit.training.solve import find_last_dense
from finetunekit.training.stage_context import Prepared, StageContext
from finetunekit.training.stage_job import FitJob, Row, StageState
from finetunekit.training.stage_record import StageRecord
from finetunekit.training.validation import Validator
from finetunekit.training.verdict import Verdict, judge
from finetunekit.types import TRAIN

MIRRORED = "mirrored train"
"""How messages call the mirror images of training photos."""


@dataclass(frozen=True, slots=True)
class _Nowhere:
    """An `EpochSink` of epochs that nobody asks for."""

    def keep(self, row: Row, state: StageState) -> None:
        """See `EpochSink`."""

    def name_photos(self, indices: Sequence[int]) -> str:
        """See `EpochSink`."""
        return f"{counted(len(indices), 'training photo')} of a fold"


@dataclass(frozen=True, slots=True)
class _Folds:
    """What the folds share.

    Attributes:
        context: The run's.
        prepared: The stage.
        stage: Its section of the config.
        number: Of the stage, from 0.
        penalties: Of the solved head before it, with their weights.
        inputs: What the head's last layer reads, of each look at the training photos, `(photos, channels)`.
    """

    context: StageContext
    prepared: Prepared
    stage: FitStage
    number: int
    penalties: Mixture
    inputs: tuple[NDArray[np.float32], ...]

    def losses(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Log losses of training photos by the network as it is now, `(rows,)`: of the answers that the run will be scored by."""
        train, is_flipped = self.context.train, self.context.plan.config.evaluate.flip
        looks = {TRAIN: train, MIRRORED: train.mirrored()} if is_flipped else {TRAIN: train}
        answers = [softmax(self.prepared.predict(look, what)[rows]) for what, look in looks.items()]
        return photo_log_losses(np.mean(answers, axis=0), train.labels[rows])

    def solve(self, rows: NDArray[np.int64]) -> None:
        """Solve the head on some of the training photos, as the stage before did on all, with its penalties."""
        solved = self.context.plan.stages[self.number - 1].config
        assert isinstance(solved, SolveStage)  # checked with the configuration
        recipe = Recipe(solved.solver, self.penalties, seed=self.context.plan.config.seed)
        features = np.concatenate([look[rows] for look in self.inputs])
        labels = np.tile(self.context.train.labels[rows], len(self.inputs))
        fit, _ = fit_chosen(features, labels, self.context.num_classes, recipe)
        layer = find_last_dense(self.context.classifier, self.context.plan, self.number).layer
        layer.kernel.assign(fit.kernel)
        layer.bias.assign(fit.bias)

    def train(self, rows: NDArray[np.int64]) -> None:
        """Train the stage on some of the training photos."""
        context, plan = self.context, self.context.plan
        validator = Validator(self.prepared, context.valid, plan.config.train.validation_draws, plan.config.seed)
        first_epoch = plan.epochs_before(self.number)
        job = FitJob(
            stage=self.stage,
            model=self.prepared.model,
            rates=self.prepared.freezing.rates,
            feed=self.prepared.feed.of(rows),
            first_epoch=first_epoch,
            total_epochs=first_epoch + self.stage.epochs,
            class_weights=class_weights(self.stage, context.train.labels[rows], context.classes),
            validator=validator,
            sink=_Nowhere(),
            progress=Progress(is_quiet=True),
            callbacks=build_callbacks(self.stage, self.prepared.model, validator, _unwritten_record(self.stage.name)),
            devices=context.devices,
        )
        if context.devices is not None:
            context.devices.agree(FIT, rows)
        run_fit(job)
        free_models()


def cross_fit(context: StageContext, prepared: Prepared, number: int, penalties: Mixture) -> Verdict:
    """Train a stage without each fold of the training photos, until it is known not to pay; the network is afterwards as it was.

    Args:
        context: What the stages share; the network holds what the stages before left.
        prepared: The stage.
        number: Of the stage, from 0; the one before it is solved.
        penalties: With which that was solved, and their weights.

    Returns:
        The verdict on all photos that were left out. It is over after the first fold by which nothing worth having is gained.

    Raises:
        RunError: If the photos are too few to leave any out; and as `run_fit`.
    """
    stage = context.plan.stages[number].config
    assert isinstance(stage, FitStage)
    assert stage.cross_fit is not None  # asked for by the stage
    before = copies(context.classifier.logits.variables)
    folds = _Folds(context, prepared, stage, number, penalties, _head_inputs(context, prepared, number))
    fold = _deal(context, stage, stage.cross_fit)
    losses = np.full((2, len(fold)), np.nan)
    try:
        for k in range(int(fold.max()) + 1):
            losses[:, fold == k] = list(_fold(folds, np.flatnonzero(fold != k), np.flatnonzero(fold == k)))
            assign(context.classifier.logits.variables, before)
            verdict = judge(*losses[:, fold <= k])
            context.progress.say(f"{stage.name}, tried on fold {k + 1} of {int(fold.max()) + 1}: {verdict.words()}")
            if not verdict.has_gained:
                break
    finally:
        assign(context.classifier.logits.variables, before)
    return verdict


def _fold(folds: _Folds, inside: NDArray[np.int64], left_out: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
    """Losses of the photos left out before the stage, and after it."""
    folds.solve(inside)
    yield folds.losses(left_out)
    folds.train(inside)
    yield folds.losses(left_out)


def _deal(context: StageContext, stage: FitStage, folds: int) -> NDArray[np.int64]:
    """Fold of each training photo; photos of one group are in the same one."""
    groups = list(context.train.groups or context.train.sha256)
    try:
        return stratified_folds(context.train.labels, folds, groups=groups, seed=context.plan.config.seed)
    except ValueError as exc:
        raise RunError(f"stage {stage.name}: cross_fit: {exc}.") from exc


def _head_inputs(context: StageContext, prepared: Prepared, number: int) -> tuple[NDArray[np.float32], ...]:
    solved = context.plan.stages[number - 1].config
    looks = {TRAIN: context.train}
    if solved.kind == "solve" and solved.mirror:
        looks[MIRRORED] = context.train.mirrored()
    found = [prepared.answer(look, what)[1] for what, look in looks.items()]
    return tuple(features for features in found if features is not None)


def _unwritten_record(stage: str) -> StageRecord:
    return StageRecord(RunRecord(Path(), {"stages": [{}]}, pending={}), 0, stage, "", Progress(is_quiet=True))
