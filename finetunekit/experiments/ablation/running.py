"""Running the cells of an ablation: their runs are known by configuration and seed, whoever asked for them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from finetunekit.config.executor_choice import executor_settings, without_executor
from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.engine.api import RunResult
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.experiments.ablation.layout import Layout, cell_label, cell_name, identity_of, lay_out
from finetunekit.experiments.ablation.record import Finished, check_same_photos, make_record
from finetunekit.experiments.run_group import Conclusion, GroupResult, Member, Outcomes, RunGroup
from finetunekit.plugins.host import PluginHost
from finetunekit.reports.ablation_page import ablation_page, figures
from finetunekit.reports.ablation_text import ablation_lines
from finetunekit.reports.notebook import default_progress
from finetunekit.runs.folder import CONFIG, FinishedRun, drop_model
from finetunekit.system.progress import Progress

ABLATION, PAGE = "ablation.json", "ablation.html"


def run_ablation(
    preset: str | Path,
    vary: Sequence[str],
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    seeds: int = 1,
    is_grid: bool = False,
    is_test: bool = False,
    out: str | Path | None = None,
    on: str | None = None,
    progress: Progress | None = None,
) -> GroupResult:
    """Vary settings of a preset, with one whole run per cell and seed, and show what each value does.

    Cells are scored on the validation split; the test split stays closed unless `is_test` is set, and then each cell
    is an opening. The same call continues where an earlier one stopped: finished runs in `out` are never repeated,
    whichever call asked for them, and an unfinished one is resumed from its last epoch. A cell whose training cannot
    continue (because its loss is not finite) is recorded as failed, and the others continue. No model is kept.

    Args:
        preset: Preset name or path of a YAML file.
        vary: `KEY=V1,V2` texts, see `finetunekit.experiments.ablation.vary.parse_varied`.
        settings: `a.b[0].c=VALUE` texts for every cell.
        seed: The first seed; default: the preset's.
        seeds: Runs per cell, with seeds counted up from the first.
        is_grid: Run every combination of values; otherwise one setting at a time differs from the preset.
        is_test: Score the test split too.
        out: Folder of the ablation; default: `runs/<name>-ablation`.
        on: Name or address of the executor that carries out the runs; default: the preset's.
        progress: Where progress is printed; default: stderr, or a live line in a notebook.

    Raises:
        ConfigError: Before anything is run, with the problems of every cell.
        RunFolderError: If photos have changed since earlier runs in `out`, or it cannot be written.
        As `finetunekit.run`: what is finished by then is kept.
    """
    progress = progress or default_progress()
    settings = (*executor_settings(on), *settings)
    layout = lay_out(preset, vary, settings=settings, seed=seed, is_grid=is_grid, is_test=is_test, progress=progress)
    if seeds < 1:
        raise ConfigError(f"seeds: at least 1. Received: {seeds}")
    path = Path("runs") / f"{layout.name}-ablation" if out is None else Path(out)
    if (path / CONFIG).exists():
        raise ConfigError(f"{path}: is the folder of a run. Choose another folder with --out.")
    kept = without_executor(settings)
    state = {"preset": layout.preset, "settings": kept, "seeds": [layout.seed + i for i in range(seeds)]}
    executor = prepare(preset, settings=settings, progress=Progress(is_quiet=True))[0].executor
    return AblationGroup(path=path, state=state, progress=progress, executor=executor, layout=layout).run()


@dataclass(kw_only=True)
class AblationGroup(RunGroup):
    """A run for every cell of an ablation and every seed.

    Attributes:
        layout: The cells.
        scored: Key → scores of a finished run.
    """

    file = ABLATION
    notes_failures = True

    layout: Layout
    scored: dict[Hashable, Finished] = field(default_factory=dict, init=False)

    @cached_property
    def members(self) -> Sequence[Member]:
        """All cells of a seed before the next seed, so that curves are whole early."""
        return [
            Member(
                key=(cell.identity, seed),
                label=f"{cell_label(self.layout, cell)}, seed {seed}",
                name=cell_name(self.layout, cell),
                settings=cell.settings,
                seed=seed,
                cost=cell.size_px**2,
            )
            for seed in self.state["seeds"]
            for cell in self.layout.cells
        ]

    def key_of(self, run: FinishedRun) -> Hashable | None:
        """Its configuration and seed, whatever asked for it."""
        return cell_key(run)

    def accept(self, member: Member, result: RunResult, *, is_new: bool) -> None:
        """Refuse to go on with photos that are not those of the other runs; keep no model of a run that is this call's own."""
        if is_new:
            drop_model(result.path)
        scored = self.scored[member.key] = Finished.read(result.path, self.path, is_test=self.layout.is_test)
        is_varied = any(axis.varied.path.startswith("data") for axis in self.layout.axes)
        check_same_photos(next(iter(self.scored.values())), scored, is_training_varied=is_varied)

    def conclude(self, outcomes: Outcomes) -> Conclusion:
        """Every cell's scores, and its difference to the preset on the same photos."""
        seeds, keys = self.state["seeds"], [cell.identity for cell in self.layout.cells]
        pairs = [(i, seed, (key, seed)) for i, key in enumerate(keys) for seed in seeds]
        finished = {(i, seed): self.scored.get(key) or str(outcomes[key]) for i, seed, key in pairs}
        record = make_record(self.layout, seeds, finished)
        return record, ablation_lines(record), {PAGE: ablation_page(record), **figures(record)}

    def plan_with(self, settings: Sequence[str], seed: int | None) -> tuple[Plan, PluginHost]:
        """The preset itself."""
        return prepare(self.layout.preset, settings=settings, seed=seed, progress=self.progress)

    @property
    def how_to_go_on(self) -> str:
        """By the same command, which may ask for more."""
        return f"finished cells are kept in {self.path}; the same command continues with the others"


def cell_key(run: FinishedRun) -> tuple[str, int] | None:
    """What tells a run of an ablation from others: its configuration and its seed; None where it cannot be read."""
    try:
        return (identity_of(run.plan), int(run.state["seed"]))
    except (RunFolderError, KeyError, TypeError, ValueError):
        return None
