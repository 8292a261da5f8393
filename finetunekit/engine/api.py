"""From a preset to finished runs: what the command line and a notebook call."""

from __future__ import annotations

import dataclasses
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.executor_choice import executor_settings
from finetunekit.config.moved_inputs import MovedInputs
from finetunekit.config.own_photos import choose_preset
from finetunekit.config.plan import EXECUTOR, Plan
from finetunekit.config.planning import prepare
from finetunekit.config.preset import setting_texts
from finetunekit.engine.pipeline import RunPipeline
from finetunekit.engine.result import RunResult
from finetunekit.engine.write_reports import write_reports
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.plugins.host import PluginHost, load_plugins
from finetunekit.reports.notebook import default_progress
from finetunekit.runs.folder import BASELINES, CONFIG, NEXT_STEPS, PLAN, STATE, FinishedRun, find_run, run_from
from finetunekit.runs.reopening import reopen_plan
from finetunekit.runs.run_record import RunRecord
from finetunekit.runs.trust import executor_that_resumes, note_started
from finetunekit.system.files import locked, sweep, to_json, write_whole
from finetunekit.system.progress import Progress

if TYPE_CHECKING:
    from finetunekit.runs.reproducibility import BitComparison
    from finetunekit.training.devices import Together

__all__ = [
    "RunResult",
    "rebuild_reports",
    "replay",
    "resume",
    "run",
    "run_plan",
    "summarise_run",
]


def run(
    preset: str | Path | None = None,
    *,
    data: str | Path | None = None,
    settings: Mapping[str, Any] | Sequence[str] = (),
    seed: int | None = None,
    out: str | Path = "runs",
    on: str | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run a preset: train, evaluate, save and report.

    `run("photos/")` and `run(data="photos/")` run the preset `small-data` on your own photos; `run("fast",
    data="photos/")` runs another.

    Args:
        preset: Preset name or path of a YAML file; or photos: a folder with one folder per class, a table or an
            archive.
        data: Photos to use instead of the preset's own. The run is named after them.
        settings: Changes to the preset: `{"stages[1].epochs": 3, "seed": 1}`, or texts such as `a.b[0].c=VALUE`,
            where VALUE is YAML.
        seed: Replaces the preset's seed.
        out: Folder in which the run's own folder is made.
        on: Name or address of the executor that carries it out; default: the preset's, or this process.
        progress: Where progress is printed; default: stderr, or a live line in a notebook.

    Returns:
        The run's folder, metrics and summary.

    Raises:
        ConfigError: Before anything is written, with every problem in the configuration, or in the photos.
        PluginError: If a plugin fails or returns what its hook does not allow.
        RunError: If training cannot continue.
        WeightsError: If the pretrained weights cannot be found or fetched.
        RunFolderError: If the run folder cannot be written.
        KeyboardInterrupt: After everything that was finished has been saved.
    """
    progress = progress or default_progress()
    asked = choose_preset(None if preset is None else str(preset), load_plugins(lambda _: None).presets, data=data)
    if asked.note:
        progress.say(f"note: {asked.note}")
    texts = (*executor_settings(on), *asked.settings, *setting_texts(settings))
    plan, host = prepare(asked.preset, settings=texts, seed=seed, progress=progress)
    return _run_where_asked(plan, host, texts, Path(out), progress)


def resume(
    run: str | Path,
    *,
    out: str | Path = "runs",
    on: str | None = None,
    is_forced: bool = False,
    progress: Progress | None = None,
    trust: bool = False,
    devices: int | None = None,
) -> RunResult:
    """Take up a run that was killed, was interrupted or failed, at the epoch that was under way.

    On the same machine, with the same versions and threads, it ends with the weights, history and scores of a run that was never
    stopped, bit for bit. A finished run is returned as it is.

    Args:
        run: The run folder, or its name under `out`.
        out: Folder of runs.
        on: Name or address of the executor that carries it out from now on; default: the one that did.
        is_forced: Go on although configuration, photos, weights, versions or machine changed.
        progress: Where progress is printed; default: stderr, or a live line in a notebook.
        trust: Run plugin files that came with the run, although this user did not start it here.
        devices: How many of this process go on with it together, in place of `train.devices`; that is a change, which has to be forced.

    Returns:
        The run's folder, metrics and summary.

    Raises:
        RunFolderError: If there is no such run, another process writes it, or something changed.
        As `run`.
    """
    progress = progress or default_progress()
    path = find_run(run, Path(out)).resolve()
    with locked(path):  # nobody else carries it out
        state = FinishedRun(path).state
    if devices is None and state["status"] != "finished" and (on or state.get(EXECUTOR)):
        settings = executor_that_resumes(path, state.get(EXECUTOR, {}), on, trust=trust)
        with run_from(path):
            plan, _ = reopen_plan(path / CONFIG, settings=settings, progress=progress, trust=trust)
            if not plan.is_carried_out_here:
                from finetunekit.engine.jobs import carry_out_again

                refuse_ensemble(path)
                return carry_out_again(path, plan, progress, is_forced=is_forced)
    return take_up(path, is_forced=is_forced, progress=progress, trust=trust, devices=devices)


def take_up(
    run: Path,
    *,
    is_forced: bool,
    progress: Progress,
    trust: bool,
    places: Mapping[Path, Path] | None = None,
    devices: int | None = None,
    together: Together | None = None,
) -> RunResult:
    """Resume a run, or begin one that waits, in this process; see `resume`.

    Args:
        run: The run folder.
        is_forced: As for `resume`, and so are `progress`, `trust` and `devices`.
        places: Path of what it reads, where it was asked for → where that lies here.
        together: Where other processes help to train it.
    """
    path = find_run(run, Path()).resolve()
    with locked(path), run_from(path):
        sweep(path)
        if FinishedRun(path).state["status"] != "finished":
            refuse_ensemble(path)
        record = RunRecord.reopen(path, progress.say)
        plan, host = reopen_plan(path / CONFIG, progress=progress, trust=trust)
        plan = dataclasses.replace(plan, source=record.state["preset"])
        plan = plan if devices is None else plan.on_devices(devices)
        moved = MovedInputs(Path(record.state["folder"]), places or {})
        pipeline = RunPipeline(plan, host, record, progress, is_forced=is_forced, moved=moved, together=together)
        if record.state["status"] != "finished":
            record.note(PLAN, to_json(plan.to_dict()))
            for file in plan.plugin_files:
                record.note(file.kept_name, file.content)
            note_started(plan.plugin_files, progress.say)
            record.write_state()
            return pipeline.run()
        if record.state.get("reported") and not record.state.get("missing"):
            progress.say(f"{path} is finished; nothing is left to do.")
        return pipeline.finish_reports()


def help_to_train(run: Path, together: Together, *, progress: Progress, places: Mapping[Path, Path]) -> None:
    """Train a run's network together with the process that carries it out; nothing is written into its folder.

    Args:
        run: The run folder, as it was when the other process began, or a copy.
        together: Where the others are.
        progress: Where progress is printed.
        places: As for `resume`.

    Raises:
        As `resume`.
    """
    path, state = run.resolve(), FinishedRun(run).state
    plan, host = reopen_plan(path / CONFIG, progress=progress, trust=True)
    moved = MovedInputs(Path(state["folder"]), places)
    with tempfile.TemporaryDirectory() as scratch, run_from(path):
        record = RunRecord.create(Path(scratch), plan, ())
        RunPipeline(plan, host, record, progress, moved=moved, together=together).train_along()


def _run_where_asked(plan: Plan, host: PluginHost, settings: Sequence[str], out: Path, progress: Progress) -> RunResult:
    """In this process, where the configuration names no executor."""
    if EXECUTOR not in plan.config.model_fields_set:
        return run_plan(plan, host, settings, out, progress)
    from finetunekit.engine.jobs import carry_out_alone

    return carry_out_alone(plan, settings, out, progress)


@dataclass(frozen=True, slots=True)
class Replay:
    """A run that was repeated.

    Attributes:
        of: The folder of the run that was.
        result: The repetition.
        verdict: Whether the two are the same.
        summary: Sentences for the user, in lines of at most 80 columns.
    """

    of: Path
    result: RunResult
    verdict: BitComparison
    summary: tuple[str, ...]


def replay(
    run: str | Path,
    *,
    out: str | Path = "runs",
    on: str | None = None,
    progress: Progress | None = None,
    trust: bool = False,
) -> Replay:
    """Repeat a finished run into a new folder and compare the two, bit for bit.

    Args:
        run: The run folder, its name under `out`, or `last`.
        out: Folder in which the repetition's own folder is made.
        on: Executor that carries it out, by its name or its address; default: this process.
        progress: Where progress is printed; default: stderr, or a live line in a notebook.
        trust: Run plugin files that came with the run, although this user did not start it here.

    Raises:
        RunFolderError: If there is no such run or it is not finished.
        As `run`.
    """
    from finetunekit.runs.reproducibility import compare_bits, replay_lines

    progress = progress or default_progress()
    path, folder = _find_finished_run(run, out).resolve(), Path(out).resolve()
    refuse_ensemble(path)
    with run_from(path):
        plan, host = reopen_plan(path / CONFIG, settings=executor_settings(on), progress=progress, trust=trust)
        result = _run_where_asked(plan, host, (), folder, progress)
    first, second = FinishedRun(path), FinishedRun(result.path)
    verdict = compare_bits(first, second)
    return Replay(path, result, verdict, replay_lines(verdict, first.state.get("reproducibility", {}).get("level")))


def run_plan(
    plan: Plan,
    host: PluginHost,
    settings: Sequence[str],
    out: Path,
    progress: Progress,
    *,
    group: str | None = None,
) -> RunResult:
    """Run a plan; see `run`.

    Args:
        plan: What `prepare` made.
        host: The plugins it was made with.
        settings: Noted in `run.json`.
        out: Folder in which the run's own folder is made.
        progress: Where progress is printed.
        group: Name of the folder of several runs that this one belongs to.

    Raises:
        ConfigError: If the plan is that of several runs.
        As `run`.
    """
    check_is_one_run(plan)
    record = RunRecord.create(out, plan, settings, group)
    note_started(plan.plugin_files, progress.say)
    with locked(record.path):
        return RunPipeline(plan, host, record, progress).run()


def check_is_one_run(plan: Plan) -> None:
    """Refuse the plan of several runs.

    Raises:
        ConfigError: If it is that of a cross-validation.
    """
    if plan.config.train.folds is not None and plan.config.train.fold is None:
        raise ConfigError(
            "train.folds: a cross-validation is several runs. Use finetunekit.run_folds, or set train.fold too."
        )


def summarise_run(run: str | Path, *, out: str | Path = "runs") -> tuple[str, ...]:
    """What a finished run says of itself, with the openings of its test split as they stand now.

    Args:
        run: The run folder, its name under `out`, or `last`.
        out: Folder of runs.

    Returns:
        Lines of at most 80 columns.

    Raises:
        RunFolderError: If there is no such run, it is not finished, or the ledger cannot be read.
    """
    from finetunekit.engine.summary import summary_lines
    from finetunekit.runs.test_split_ledger import read_openings

    finished = FinishedRun(_find_finished_run(run, out))
    openings = read_openings(finished.state["test_content_key"])
    return summary_lines(
        finished.metrics,
        openings,
        finished.metrics["seconds"]["whole"],
        baselines=finished.optional(BASELINES),
        steps=finished.optional(NEXT_STEPS),
    )


def rebuild_reports(
    run: str | Path, *, out: str | Path = "runs", progress: Progress | None = None, trust: bool = False
) -> tuple[Path, ...]:
    """Rebuild the reports of a finished run from its folder alone.

    Args:
        run: The run folder, its name under `out`, or `last`.
        out: Folder of runs.
        progress: Receives warnings.
        trust: Run plugin files that came with the run, although this user did not start it here.

    Returns:
        The files written.

    Raises:
        RunFolderError: If there is no such run or it is not finished.
        ConfigError: If a reporter that it names is not installed any more.
    """
    progress = progress or Progress()
    path = _find_finished_run(run, out)
    plan, _ = reopen_plan(path / CONFIG, progress=progress, trust=trust)
    if not plan.config.evaluate.test:
        raise RunFolderError(f"{path}: left its test split closed (evaluate.test: false); reports show test scores.")
    with locked(path):
        limit_s, files = plan.config.save.report_timeout_s, plan.plugin_files
        written, missing = write_reports(plan.reports, path, progress, limit_s, plugin_files=files)
        state = {**FinishedRun(path).state, "missing": [dataclasses.asdict(report) for report in missing]}
        write_whole(path / STATE, to_json(state))
        return written


def refuse_ensemble(path: Path) -> None:
    """Refuse to train what was never trained.

    Raises:
        RunFolderError: If the run is an ensemble.
    """
    members = FinishedRun(path).state.get("ensemble", {}).get("members")
    if members:
        again = shlex.join(["finetunekit", "ensemble", *(member["run"] for member in members)])
        raise RunFolderError(f"{path}: is an ensemble, which trains nothing. Make it again: {again}")


def _find_finished_run(run: str | Path, out: str | Path) -> Path:
    path = find_run(run, Path(out))
    status = FinishedRun(path).state["status"]
    if status != "finished":
        raise RunFolderError(f"{path}: is '{status}'; reports are made from finished runs.")
    return path
