"""Running the cells of an ablation: finished ones are known by their configuration, stopped ones are taken up."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetunekit.engine.api import resume, run
from finetunekit.errors import ConfigError, RunError, RunFolderError
from finetunekit.experiments.ablation.layout import Cell, Layout, cell_name, lay_out
from finetunekit.experiments.ablation.planning import identity_of
from finetunekit.experiments.ablation.record import Finished, check_same_photos, make_record
from finetunekit.reports.ablation_page import ablation_page, figures
from finetunekit.reports.ablation_text import ablation_lines
from finetunekit.runs.folder import CONFIG, PLAN, FinishedRun, drop_model
from finetunekit.system.files import locked, to_json, write_whole
from finetunekit.system.progress import Progress, default_progress, resume_hint, show_duration

ABLATION, PAGE = "ablation.json", "ablation.html"


@dataclass(frozen=True, slots=True)
class AblationResult:
    """A finished ablation.

    Attributes:
        path: Its folder; the runs lie in it.
        record: Content of `ablation.json`.
        summary: Lines of at most 80 columns.
        files: `ablation.json`, the page, and a figure a varied setting.
    """

    path: Path
    record: Mapping[str, Any]
    summary: tuple[str, ...]
    files: tuple[Path, ...]


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
    progress: Progress | None = None,
) -> AblationResult:
    """Vary settings of a preset, one whole run a cell and seed, and say what each value does.

    Cells are scored on the validation split; the test split stays shut unless `is_test` says otherwise, and then each cell is an
    opening. The same call goes on where an earlier one was stopped: finished runs in `out` are never repeated, whatever asked for
    them, and one that was under way is taken up at its last epoch. A cell whose training cannot go on (a loss that is not finite)
    is noted as failed, and the others go on. No model is kept.

    Args:
        preset: Preset name or path of a YAML file.
        vary: `KEY=V1,V2` texts, see `finetunekit.experiments.ablation.vary.parse_varied`.
        settings: `a.b[0].c=VALUE` texts for every cell.
        seed: The first seed; default: the preset's.
        seeds: Runs of each cell, seeds counted up from the first.
        is_grid: Run every combination of values; else one setting at a time differs from the preset.
        is_test: Score the test split too.
        out: Folder of the ablation; default: `runs/<name>-ablation`.
        progress: Where progress is printed; default: stderr, a live line in a notebook.

    Raises:
        ConfigError: Before anything is run, with the problems of every cell.
        RunFolderError: If photos have changed since earlier runs in `out`, or it cannot be written.
        As `finetunekit.run`: what was finished by then is kept.
    """
    progress = progress or default_progress()
    layout = lay_out(preset, vary, settings=settings, seed=seed, is_grid=is_grid, is_test=is_test, progress=progress)
    if seeds < 1:
        raise ConfigError(f"seeds: at least 1. Received: {seeds}")
    path = Path("runs") / f"{layout.name}-ablation" if out is None else Path(out)
    _make_folder(path)
    how = f"finished cells are kept in {path}; the same command goes on with the others"
    with locked(path), resume_hint(path, how, progress):
        jobs = _Jobs(layout, path, tuple(layout.seed + i for i in range(seeds)), progress)
        finished = jobs.run_all()
        record = make_record(layout, jobs.seeds, finished)
        files = _write(path, record)
    return AblationResult(path, record, ablation_lines(record), files)


def _write(path: Path, record: Mapping[str, Any]) -> tuple[Path, ...]:
    drawn = figures(record)
    contents: dict[str, str | bytes] = {ABLATION: to_json(record), PAGE: ablation_page(record), **drawn}
    for name, content in contents.items():
        write_whole(path / name, content)
    return tuple(path / name for name in contents)


def _make_folder(path: Path) -> None:
    if (path / CONFIG).exists():
        raise ConfigError(f"{path}: is the folder of a run. Choose another folder with --out.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise RunFolderError(f"{path}: cannot be made ({exc.strerror or exc}). Choose another with --out.") from exc


class _Jobs:
    """Every run that is asked for: those that are there, and those to do."""

    def __init__(self, layout: Layout, path: Path, seeds: tuple[int, ...], progress: Progress) -> None:
        self.layout, self.path, self.seeds, self.progress = layout, path, seeds, progress
        self.known = known_runs(path)
        self.first: Finished | None = None
        self.seconds: list[tuple[int, float]] = []  # input side in px, seconds

    def run_all(self) -> dict[tuple[int, int], Finished | str]:
        """(Cell, seed) → its run, or why it failed. All cells of a seed before the next seed, so that curves are whole early."""
        found: dict[tuple[int, int], Finished | str] = {}
        jobs = [(i, seed) for seed in self.seeds for i in range(len(self.layout.cells))]
        missing = [job for job in jobs if not self._is_finished(*job)]
        self.progress.say(f"{len(jobs)} runs: {len(jobs) - len(missing)} are there, {len(missing)} to do")
        for i, seed in jobs:
            if (i, seed) not in missing:
                found[i, seed] = self._read(self._place(i, seed), self.layout.cells[i])
        for number, (i, seed) in enumerate(missing):
            left = self._left(missing[number:])
            self.progress.say(f"run {number + 1} of {len(missing)}: {self._words(i)}, seed {seed}{left}")
            found[i, seed] = self._run(i, seed)
        return found

    def _place(self, i: int, seed: int) -> Path:
        return self.known[self.layout.cells[i].identity, seed]

    def _is_finished(self, i: int, seed: int) -> bool:
        path = self.known.get((self.layout.cells[i].identity, seed))
        return path is not None and FinishedRun(path).state.get("status") == "finished"

    def _run(self, i: int, seed: int) -> Finished | str:
        cell = self.layout.cells[i]
        earlier = self.known.get((cell.identity, seed))
        try:
            if earlier is not None:
                path = resume(earlier, progress=self.progress).path
            else:
                settings = [*cell.settings, f"name={cell_name(self.layout, cell)}"]
                path = run(self.layout.preset, settings=settings, seed=seed, out=self.path, progress=self.progress).path
        except RunError as exc:
            self.progress.say(f"failed: {exc}")
            return str(exc)
        drop_model(path)
        return self._read(path, cell)

    def _read(self, path: Path, cell: Cell) -> Finished:
        finished = Finished.read(path, self.path, is_test=self.layout.is_test)
        self.first = self.first or finished
        is_varied = any(axis.varied.path.startswith("data") for axis in self.layout.axes)
        check_same_photos(self.first, finished, is_training_varied=is_varied)
        self.seconds.append((cell.size_px, finished.seconds))
        return finished

    def _words(self, i: int) -> str:
        cell = self.layout.cells[i]
        differs = [
            f"{axis.varied.key} {axis.varied.choices[at].shown}"
            for axis, at in zip(self.layout.axes, cell.at, strict=True)
            if at != axis.own
        ]
        return ", ".join(differs) or "the preset itself"

    def _left(self, jobs: Sequence[tuple[int, int]]) -> str:
        """Time by the runs that are finished, in proportion to the pixels of the input."""
        if not self.seconds:
            return ""
        rate = statistics.fmean(seconds / side**2 for side, seconds in self.seconds)
        seconds = rate * sum(self.layout.cells[i].size_px ** 2 for i, _ in jobs)
        return f"; about {show_duration(seconds)} left for all"


def known_runs(path: Path) -> dict[tuple[str, int], Path]:
    """Runs of the folder by configuration and seed: a finished one before others, else the newest; what cannot be read is no run."""
    found: dict[tuple[str, int], tuple[bool, Path]] = {}
    for place in sorted(plan.parent for plan in path.glob(f"[!.]*/{PLAN}")):
        one = FinishedRun(place)
        try:
            key = (identity_of(one.plan), int(one.plan["config"]["seed"]))
            is_finished = one.state.get("status") == "finished"
        except (RunFolderError, KeyError, TypeError, ValueError):
            continue
        if key not in found or is_finished or not found[key][0]:
            found[key] = (is_finished, place)
    return {key: place for key, (_, place) in found.items()}
