"""Several seeds of one configuration: a run each in one folder, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from finetunekit.config.executor_choice import executor_settings
from finetunekit.config.planning import prepare
from finetunekit.engine.api import RunResult
from finetunekit.errors import ConfigError
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
from finetunekit.runs.folder import SEEDS, FinishedRun, drop_model
from finetunekit.system.progress import Progress


def run_seeds(
    preset: str | Path,
    seeds: int,
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    out: str | Path = "runs",
    on: str | None = None,
    progress: Progress | None = None,
) -> GroupResult:
    """Run a preset with several seeds, one run each, in one folder.

    Args:
        preset: Preset name or path of a YAML file; editing that file later changes none of the runs.
        seeds: How many, counted up from the first.
        settings: As in `run`.
        seed: The first seed; default: the preset's.
        out: Folder in which the folder of the runs is made.
        on: Name or address of the executor that carries out the runs; default: the preset's.
        progress: As in `run`.

    Raises:
        ConfigError: If there is no seed to run, if the test split stays closed, or as in `run`.
        As `run`: seeds that are finished by then are kept, and `resume_seeds` continues with the others.
    """
    progress = progress or default_progress()
    plan, _ = prepare(preset, settings=(*executor_settings(on), *settings), seed=seed, progress=progress)
    if seeds < 1:
        raise ConfigError(f"seeds: at least 1. Received: {seeds}")
    if not plan.config.evaluate.test:
        raise ConfigError("evaluate.test: false leaves seeds no score to sum up. Use `ablate`, or leave it out.")
    numbers = [plan.config.seed + number for number in range(seeds)]
    path, state = make_group_folder(SEEDS, plan, settings, Path(out), progress, {}, seeds=numbers, planned=seeds)
    return SeedGroup(path=path, state=state, progress=progress, executor=plan.executor, is_new=True).run()


def resume_seeds(
    path: Path,
    *,
    is_forced: bool = False,
    on: str | None = None,
    progress: Progress | None = None,
    trust: bool = False,
) -> GroupResult:
    """Go on with seeds that were stopped; they end with the bits of seeds that were never stopped, on the same machine.

    Args:
        path: Folder of the runs.
        is_forced: Go on although configuration, photos, versions or machine changed.
        on: Executor that carries the runs out from now on, by its name or its address; default: the one that did.
        progress: Where progress is printed.
        trust: Run plugin files that came with the run, although this user did not start it here.

    Raises:
        RunFolderError: If the folder holds no seeds, another process writes it, or something changed.
        As `run`.
    """
    return resume_group(
        path, SEEDS, lambda _, **known: SeedGroup(**known), is_forced=is_forced, on=on, progress=progress, trust=trust
    )


@dataclass(kw_only=True)
class SeedGroup(RunGroup):
    """Runs of one configuration that differ in their seed."""

    file = SEEDS

    @cached_property
    def members(self) -> Sequence[Member]:
        """One a seed."""
        seeds = {f"{self.state['name'][:60]}-seed-{seed}": seed for seed in self.state["seeds"]}
        return [Member(name, f"seed {seed}", name, seed=seed) for name, seed in seeds.items()]

    def accept(self, member: Member, result: RunResult, *, is_new: bool) -> None:
        """Keep its model where `save.seeds` says so."""
        kept = FinishedRun(result.path).config["save"]["seeds"]
        if kept == "none" or (kept == "first" and member != self.members[0]):
            drop_model(result.path)

    def conclude(self, outcomes: Outcomes) -> Conclusion:
        """The mean over seeds, with the interval over seeds and that over photos."""
        from finetunekit.experiments.seeds_summary import seeds_lines, summarise_runs

        runs = [run for member in self.members if isinstance(run := outcomes[member.key], RunResult)]
        metrics = [run.metrics for run in runs]
        is_sharing = FinishedRun(runs[0].path).config["view_seed"] is not None
        return summarise_runs(metrics), seeds_lines(metrics, is_sharing_views=is_sharing), {}
