"""Leaving sources out: how much worse does a recipe do on photos of a camera or a place that it was not trained on?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.executor_choice import executor_settings
from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.config.preset import setting_text
from finetunekit.engine.api import RunResult, rebuild_reports
from finetunekit.errors import ConfigError, DataError, did_you_mean
from finetunekit.experiments.leave_out_summary import leave_out_lines, leave_out_scores, unseen_sentence
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
from finetunekit.runs.folder import LEFT_OUT, PREDICTIONS, UNSEEN_SOURCES, FinishedRun, drop_model
from finetunekit.system.files import to_csv, to_json, write_whole
from finetunekit.system.formatting import escaped
from finetunekit.system.progress import Progress
from finetunekit.types import TEST

if TYPE_CHECKING:
    from finetunekit.data.index import PhotoIndex

EACH = "each"
"""Asks for every source, one after the other."""


def run_left_out(
    preset: str | Path,
    sources: Sequence[str] = (EACH,),
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    out: str | Path = "runs",
    on: str | None = None,
    progress: Progress | None = None,
) -> GroupResult:
    """Run a preset on all photos, then once without each source, tested on that source alone.

    A source is a group of photos, as the data source names it: the column `group` of a table.

    Args:
        preset: As in `finetunekit.run`, and so are the others.
        sources: Groups to leave out; `each`: every group without which there are still photos of all classes to learn from.
        settings: `a.b[0].c=VALUE` texts.
        seed: Replaces the preset's seed; the same for all runs.
        out: Folder in which the folder of the runs is made.
        on: Executor that carries the runs out, by its name or its address; default: that of the preset.
        progress: Where progress is printed.

    Raises:
        ConfigError: If the preset chooses its test photos itself, or has no test, or as `run`.
        DataError: If there is no such group, or none can be left out.
        As `run`: what is finished by then is kept, and `resume_left_out` continues.
    """
    progress = progress or default_progress()
    plan, _ = prepare(preset, settings=(*executor_settings(on), *settings), seed=seed, progress=progress)
    train = plan.config.train
    if train.folds is not None or train.leave_out is not None or not plan.config.evaluate.test:
        raise ConfigError(
            f"{plan.source}: leaving sources out chooses the test photos itself. Leave out train.folds, train.leave_out and "
            "evaluate.test: false."
        )
    index = _index(plan, progress)
    chosen, kept = _choose(index, sources)
    planned = 1 + len(chosen)
    path, state = make_group_folder(
        LEFT_OUT, plan, settings, Path(out), progress, {}, planned=planned, sources=chosen, kept=kept
    )
    for source, reason in kept.items():
        progress.say(f"note: '{escaped(source)}' is not left out: {reason}")
    group = SourceGroup(
        path=path, state=state, progress=progress, executor=plan.executor, plan=plan, index=index, is_new=True
    )
    return group.run()


def resume_left_out(
    path: Path,
    *,
    is_forced: bool = False,
    on: str | None = None,
    progress: Progress | None = None,
    trust: bool = False,
) -> GroupResult:
    """Go on with sources that were being left out; see `resume_seeds`.

    Raises:
        RunFolderError: If the folder holds no such runs, or something changed.
        As `run`.
    """

    def make(plan: Plan, **known: Any) -> SourceGroup:
        return SourceGroup(plan=plan, index=_index(plan, known["progress"]), **known)

    return resume_group(path, LEFT_OUT, make, is_forced=is_forced, on=on, progress=progress, trust=trust)


def _index(plan: Plan, progress: Progress) -> PhotoIndex:
    from finetunekit.data.listing import index_listing, list_photos

    return index_listing(plan, list_photos(plan, progress), progress)


def _choose(index: PhotoIndex, sources: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Groups to leave out, and the reason for each that cannot be."""
    from finetunekit.data.left_out import groups_of, reason_to_keep

    groups = groups_of(index)
    if not groups:
        raise DataError(
            f"{escaped(str(index.root))}: no photo has a group, so that no source can be left out. "
            "finetunekit data split PHOTOS --group-by REGEX writes a table with one for each."
        )
    asked = groups if EACH in sources else tuple(dict.fromkeys(sources))
    for source in asked:
        if source not in groups:
            raise DataError(
                f"{escaped(str(index.root))}: no photo has the group '{escaped(source)}'.{did_you_mean(source, groups)}"
            )
    reasons = {source: reason_to_keep(index, source) for source in asked}
    kept = {source: reason for source, reason in reasons.items() if reason is not None}
    chosen = [source for source in asked if source not in kept]
    if not chosen:
        first = next(iter(kept))
        raise DataError(
            f"{escaped(str(index.root))}: none of these groups can be left out; '{escaped(first)}': {kept[first]}."
        )
    return chosen, kept


@dataclass(kw_only=True)
class SourceGroup(RunGroup):
    """One run on all photos, and one without each source.

    Attributes:
        plan: Of the run on all photos.
        index: Its photos.
    """

    file = LEFT_OUT

    plan: Plan
    index: PhotoIndex

    @cached_property
    def members(self) -> Sequence[Member]:
        """The run on all photos first. That sources are in several splits is what is asked here, and no mistake."""
        name = self.state["name"][:70]
        allow = setting_text("data.audit.allow", sorted({*self.plan.config.data.audit.allow, "group"}))
        left = [
            Member(
                f"{name}-without-{n}",
                f"without '{escaped(source)}'",
                f"{name}-without-{n}",
                (setting_text("train.leave_out", source), allow),
            )
            for n, source in enumerate(self.state["sources"], start=1)
        ]
        return [Member(name, "all sources", name, (allow,)), *left]

    def accept(self, member: Member, result: RunResult, *, is_new: bool) -> None:
        """Of the runs without a source nobody wants the network; some of their test photos are of the usual test split."""
        if member == self.members[0]:
            return
        drop_model(result.path)
        note_opening(self.plan, self.index, self.index.split(TEST), self.path, self.progress.say)

    def conclude(self, outcomes: Outcomes) -> Conclusion:
        """Scores of each source when it was left out, beside those of the run that knew it; its report says so as well."""
        usual, *left = [run for member in self.members if isinstance(run := outcomes[member.key], RunResult)]
        rows = {
            source: FinishedRun(run.path).split_predictions(TEST)
            for source, run in zip(self.state["sources"], left, strict=True)
        }
        scores = leave_out_scores(rows, FinishedRun(usual.path).split_predictions(TEST), usual.metrics)
        lines = leave_out_lines({**scores, "kept": self.state["kept"]})
        write_whole(usual.path / UNSEEN_SOURCES, to_json({"words": unseen_sentence(scores), **scores}))
        rebuild_reports(usual.path, progress=self.progress, trust=self.trust)
        listed = [{"source": source, **row} for source, found in rows.items() for row in found]
        return scores, lines, {PREDICTIONS: to_csv(listed, tuple(listed[0]))}
