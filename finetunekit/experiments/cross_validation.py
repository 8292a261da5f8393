"""Cross-validation: a run for each fold in one folder, and scores of all photos, each predicted by a network that never saw it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.executor_choice import executor_settings
from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.engine.api import RunResult
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.experiments.cross_validation_summary import fold_lines, pool_scores
from finetunekit.experiments.openings import note_opening
from finetunekit.experiments.run_group import (
    Conclusion,
    GroupResult,
    Member,
    Outcomes,
    RunGroup,
    make_group_folder,
    resume_group,
)
from finetunekit.reports.notebook import default_progress
from finetunekit.runs.folder import CROSS_VALIDATION, PREDICTIONS, FinishedRun
from finetunekit.system.files import to_csv
from finetunekit.system.progress import Progress
from finetunekit.types import TEST

if TYPE_CHECKING:
    from finetunekit.data.index import IndexedPhoto, PhotoIndex

FOLDS = "folds.csv"


def run_folds(
    preset: str | Path,
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    out: str | Path = "runs",
    on: str | None = None,
    progress: Progress | None = None,
) -> GroupResult:
    """Cross-validate a preset whose `train.folds` is set, with one run per fold; each photo is tested on once.

    Photos of all splits are assigned to folds: classes in equal parts, with groups and copies of one file together.
    In the run of a fold, that fold is the test split, the next one is the validation split, and the others train.

    Args:
        preset: As in `finetunekit.run`, like the other arguments.
        settings: `a.b[0].c=VALUE` texts.
        seed: Replaces the preset's seed; the same for all folds.
        out: Folder in which the cross-validation's own folder is made.
        on: Name or address of the executor that carries out the runs; default: the preset's.
        progress: Where progress is printed.

    Raises:
        ConfigError: If `train.folds` is not set, or as in `run`.
        DataError: If a fold would lack a class.
        As `run`: what is finished by then is kept, and `resume_folds` continues.
    """
    progress = progress or default_progress()
    plan, _ = prepare(preset, settings=(*executor_settings(on), *settings), seed=seed, progress=progress)
    if plan.config.train.folds is None or plan.config.train.fold is not None:
        raise ConfigError(f"{plan.source}: train.folds is not set, or train.fold is. Set train.folds alone.")
    if not plan.config.evaluate.test:
        raise ConfigError(f"{plan.source}: a cross-validation scores test photos; leave out evaluate.test: false.")
    index, fold_of = deal(plan, progress)
    files, planned = {FOLDS: _folds_csv(index, fold_of)}, plan.config.train.folds
    path, state = make_group_folder(CROSS_VALIDATION, plan, settings, Path(out), progress, files, planned=planned)
    group = FoldGroup(
        path=path,
        state=state,
        progress=progress,
        executor=plan.executor,
        plan=plan,
        index=index,
        fold_of=fold_of,
        is_new=True,
    )
    return group.run()


def resume_folds(
    path: Path,
    *,
    is_forced: bool = False,
    on: str | None = None,
    progress: Progress | None = None,
    trust: bool = False,
) -> GroupResult:
    """Go on with a cross-validation that was stopped: finished folds are kept, one that was under way is taken up.

    Args:
        path: Its folder.
        is_forced: Go on although configuration, weights, versions or machine changed; photos may never.
        on: Executor that carries the runs out from now on, by its name or its address; default: the one that did.
        progress: Where progress is printed.
        trust: Run plugin files that came with the run, although this user did not start it here.

    Raises:
        RunFolderError: If the folder holds no cross-validation, or something changed.
        As `run`.
    """

    def make(plan: Plan, **known: Any) -> FoldGroup:
        index, fold_of = deal(plan, known["progress"])
        if _folds_csv(index, fold_of) != FinishedRun(known["path"]).text(FOLDS):
            raise RunFolderError(
                f"{known['path']}: photos, labels or folds have changed since. Run the cross-validation again."
            )
        return FoldGroup(plan=plan, index=index, fold_of=fold_of, **known)

    return resume_group(path, CROSS_VALIDATION, make, is_forced=is_forced, on=on, progress=progress, trust=trust)


def deal(plan: Plan, progress: Progress) -> tuple[PhotoIndex, dict[Path, int]]:
    """Every photo, in the splits it comes with, and its fold: so all that can be wrong with them is said before the first run."""
    from finetunekit.data.folds import fold_of_photos
    from finetunekit.data.listing import index_listing, list_photos

    index = index_listing(plan, list_photos(plan, progress), progress)
    return index, fold_of_photos(index, plan.config.train.folds or 0, seed=plan.config.train.fold_seed)


def _dealt_photos(index: PhotoIndex, fold_of: Mapping[Path, int]) -> list[IndexedPhoto]:
    """Photos that are in a fold, each once."""
    return list({photo.path: photo for photo in index.photos if photo.path in fold_of}.values())


def _folds_csv(index: PhotoIndex, fold_of: Mapping[Path, int]) -> str:
    """The folds as a table that the data source `table` reads."""
    rows = [
        {"file_name": p.name, "sha256": p.sha256, "label": p.label, "group": p.group or "", "fold": fold_of[p.path]}
        for p in _dealt_photos(index, fold_of)
    ]
    return to_csv(rows, ("file_name", "sha256", "label", "group", "fold"))


@dataclass(kw_only=True)
class FoldGroup(RunGroup):
    """Runs of one configuration that differ in the fold they are tested on.

    Attributes:
        plan: Of the cross-validation.
        index: Its photos, in the splits they come with.
        fold_of: Path of a photo → its fold, from 1.
    """

    file = CROSS_VALIDATION

    plan: Plan
    index: PhotoIndex
    fold_of: Mapping[Path, int]

    @cached_property
    def members(self) -> Sequence[Member]:
        """One a fold."""
        folds = {f"{self.state['name'][:70]}-fold-{fold}": fold for fold in range(1, self.state["planned"] + 1)}
        return [Member(name, f"fold {fold}", name, (f"train.fold={fold}",)) for name, fold in folds.items()]

    def accept(self, member: Member, result: RunResult, *, is_new: bool) -> None:
        """Its own run noted the opening of its test photos; some of them are of the test split that the photos come with."""
        self._record_opening(self.index.split(TEST))

    def conclude(self, outcomes: Outcomes) -> Conclusion:
        """The scores of all photos together."""
        runs = [run for member in self.members if isinstance(run := outcomes[member.key], RunResult)]
        self._record_opening(_dealt_photos(self.index, self.fold_of))
        rows = [
            {"fold": fold, **row}
            for fold, run in enumerate(runs, start=1)
            for row in FinishedRun(run.path).split_predictions(TEST)
        ]
        scores = {
            **pool_scores(rows, [run.metrics for run in runs]),
            "groups": len({photo.group for photo in self.index.photos if photo.group is not None}),
            "openings": self._record_opening(self.index.split(TEST)),
        }
        return scores, fold_lines(scores), {PREDICTIONS: to_csv(rows, tuple(rows[0]))}

    def _record_opening(self, photos: Iterable[IndexedPhoto]) -> dict[str, Any] | None:
        """See `note_opening`."""
        return note_opening(self.plan, self.index, photos, self.path, self.progress.say)
