"""Whole runs as jobs for an executor: each is a run folder, from which the run is taken up wherever it was left."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from finetunekit._version import __version__
from finetunekit.config.executor_choice import executor_values, without_executor
from finetunekit.config.moved_inputs import absolute
from finetunekit.config.plan import Chosen, Plan
from finetunekit.engine.api import check_is_one_run, take_up
from finetunekit.engine.result import RunResult, read_result
from finetunekit.errors import FinetuneKitError, PluginError, RunFolderError
from finetunekit.plugins.components import call_builder, component_label, shown_value
from finetunekit.plugins.host import OWN_DISTRIBUTION
from finetunekit.runs.folder import WAITING, FinishedRun
from finetunekit.runs.run_record import RunRecord
from finetunekit.runs.test_split_ledger import record_opening
from finetunekit.runs.trust import note_started
from finetunekit.system.formatting import one_line
from finetunekit.system.progress import Progress
from finetunekit.system.resource_check import network_budget
from finetunekit.system.storage import is_remote
from finetunekit.system.user_dirs import cache_dir
from finetunekit.types import Executor, Job, Origin, Outcome

LIBRARIES_BYTES = 1 << 30
"""Of a run besides its network: Python, TensorFlow and the photos at hand. Measured as peaks: 1.2 GB with Lite0, 1.5 GB with VGG16."""
_MODULE = "finetunekit.engine.carry_out"


# ---- jobs ------------------------------------------------------------------------------------------------------------------------


def new_job(
    plan: Plan,
    settings: Sequence[str],
    out: Path,
    *,
    label: str,
    progress: Progress,
    group: str | None = None,
    is_alone: bool = False,
) -> Job:
    """Make the folder of a run that nobody has begun.

    Args:
        plan: What `prepare` made.
        settings: Noted in `run.json`.
        out: Folder in which the run's own folder is made.
        label: For the user.
        progress: Of the run where it is carried out in this process.
        group: Name of the folder of several runs that this one belongs to.
        is_alone: Note the executor in `run.json`, so that it is resumed there; the folder of several runs does so for its own.

    Raises:
        ConfigError: If the plan is that of several runs.
        RunFolderError: If `out` cannot be written.
    """
    check_is_one_run(plan)
    executor = executor_values(plan.executor) if is_alone else None
    record = RunRecord.create(out, plan, without_executor(settings), group, status=WAITING, executor=executor)
    note_started(plan.plugin_files, progress.say, executor)
    return job_of(record.path, plan, label=label, progress=progress)


def job_of(path: Path, plan: Plan, *, label: str, progress: Progress, is_forced: bool = False) -> Job:
    """A run folder as a job; whoever calls this has seen to it that the plugin files that it names may be run.

    Args:
        path: The run folder.
        plan: Of the run.
        label: For the user.
        progress: Of the run where it is carried out in this process.
        is_forced: Go on although configuration, photos, versions or machine changed.
    """
    folder = path.resolve()
    spec = plan.backbone.registered.spec
    assert spec is not None  # PluginHost refuses a backbone without one
    return Job(
        folder=folder,
        label=label,
        arguments=("-P", "-m", _MODULE, *(["--force"] if is_forced else [])),
        here=lambda: _carry_out_here(folder, progress, is_forced=is_forced),
        reads=tuple(dict.fromkeys(path for path in _inputs(plan) if path.exists())),
        requires={OWN_DISTRIBUTION: __version__, **{o.distribution: o.version for o in _origins(plan) if o.version}},
        memory_bytes=LIBRARIES_BYTES + network_budget(spec.parameters).memory_bytes,
        is_divisible=any(stage.config.kind == "fit" for stage in plan.stages),
    )


def _carry_out_here(folder: Path, progress: Progress, *, is_forced: bool) -> None:
    take_up(folder, is_forced=is_forced, progress=progress, trust=True)


def _origins(plan: Plan) -> Iterator[Origin]:
    yield from (component.registered.origin for component in plan.components())


def _inputs(plan: Plan) -> Iterator[Path]:
    """What a run reads besides its folder, which has copies of its plugin files, and besides what any machine can fetch."""
    data, weights = plan.config.data, plan.config.weights
    written = [stage.config.features for stage in plan.stages if stage.config.kind == "solve"]
    named = (text for text in (data.root, weights.path, *data.exclude, *written) if text and not is_remote(text))
    yield from map(absolute, named)
    if data.root and absolute(data.root).is_file():
        yield from _listed_beside(plan, absolute(data.root))


def _listed_beside(plan: Plan, root: Path) -> Iterator[Path]:
    """The folder of the photos that a table lists; what was unpacked from an archive is unpacked again elsewhere."""
    from finetunekit.data.listing import list_photos

    photos = [absolute(photo.path) for photo in list_photos(plan, Progress(is_quiet=True)).photos]
    if photos and not photos[0].is_relative_to(cache_dir()):
        yield Path(os.path.commonpath([root, *photos]))


# ---- carrying them out -----------------------------------------------------------------------------------------------------------


def check_run(job: Job) -> str | None:
    """What is wrong with a job that was given back as finished; None: its run is."""
    status = FinishedRun(job.folder).state["status"]
    return None if status == "finished" else f"which is '{status}'"


def carry_out(
    chosen: Chosen, jobs: Iterator[Job], progress: Progress, check: Callable[[Job], str | None] = check_run
) -> Generator[Outcome]:
    """Have an executor carry out jobs; how each ended, as soon as it has. Close the iterator where it is left early.

    Args:
        chosen: The executor.
        jobs: Made one by one, as the executor asks for them.
        progress: Where what the executor says is printed.
        check: What is wrong with a job that was given back as finished; None: nothing.

    Raises:
        PluginError: If the executor fails, or does not give back each job once, finished or with an error.
        FinetuneKitError: If it says that no jobs can be carried out at all.
    """
    executor: Executor = call_builder(chosen)
    if not callable(getattr(executor, "run", None)):
        raise PluginError(f"{component_label(chosen)}: what its builder returns has no run.")
    handed = _Handed(jobs, check)
    outcomes = executor.run(handed.out(), progress.say)
    try:
        for outcome in outcomes:
            handed.take_back(outcome, component_label(chosen))
            yield outcome
        handed.check_all_are_back(component_label(chosen))
    except (FinetuneKitError, KeyboardInterrupt, GeneratorExit):
        raise
    except Exception as exc:
        if exc is handed.fault:
            raise
        raise PluginError(f"{component_label(chosen)} failed: {type(exc).__name__}: {one_line(exc)}") from exc
    finally:
        with contextlib.suppress(AttributeError):  # an iterator that cannot be closed has nothing to stop
            outcomes.close()  # type: ignore[attr-defined]


class _Handed:
    """Jobs that an executor was handed.

    Attributes:
        fault: What was raised by this side while the executor asked for a job, or by a run in this process: none of the executor's.
    """

    def __init__(self, jobs: Iterator[Job], check: Callable[[Job], str | None]) -> None:
        self._check = check
        self._jobs, self._under_way, self._is_through = jobs, dict[Path, Job](), False
        self.fault: Exception | None = None

    def out(self) -> Iterator[Job]:
        with self._noting_faults():
            for job in self._jobs:
                self._under_way[job.folder] = job
                yield dataclasses.replace(job, here=self._noting(job))
        self._is_through = True

    def _noting(self, job: Job) -> Any:
        def here() -> None:
            with self._noting_faults():
                job.here()

        return here

    @contextlib.contextmanager
    def _noting_faults(self) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            self.fault = exc
            raise

    def take_back(self, outcome: object, who: str) -> None:
        """Check an outcome: of a job that is under way, and finished where it says so."""
        if not isinstance(outcome, Outcome):
            raise PluginError(f"{who} must give back Outcome. Received: {shown_value(outcome)}")
        job = self._under_way.pop(outcome.job.folder, None)
        if job is None:
            raise PluginError(f"{who} gives back {outcome.job.label}, which is not under way.")
        if outcome.error is None and (wrong := self._check(job)) is not None:
            raise PluginError(f"{who} gives back {job.label} as finished, {wrong}: {job.folder}")

    def check_all_are_back(self, who: str) -> None:
        """Check that the executor has not stopped before its work was done."""
        lost = [job.label for job in self._under_way.values()]
        if lost or not self._is_through:
            raise PluginError(f"{who} stopped before its work was done; not given back: {', '.join(lost) or 'none'}.")


def carry_out_alone(plan: Plan, settings: Sequence[str], out: Path, progress: Progress) -> RunResult:
    """Carry out one run where its configuration says; see `finetunekit.run`."""

    def jobs() -> Iterator[Job]:
        yield new_job(plan, settings, out, label=plan.config.name, progress=progress, is_alone=True)

    return _carried_out(plan, jobs(), progress)


def carry_out_again(path: Path, plan: Plan, progress: Progress, *, is_forced: bool) -> RunResult:
    """Resume one run where its plan says; see `finetunekit.engine.api.resume`."""
    job = job_of(path, plan, label=plan.config.name, progress=progress, is_forced=is_forced)
    return _carried_out(plan, iter([job]), progress)


def _carried_out(plan: Plan, jobs: Iterator[Job], progress: Progress) -> RunResult:
    with contextlib.closing(carry_out(plan.executor, jobs, progress)) as outcomes:
        (outcome,) = outcomes
    return result_of(outcome, progress)


def result_of(outcome: Outcome, progress: Progress) -> RunResult:
    """The run of a job that has ended.

    That it has opened its test split is noted in this user's ledger, wherever it did so; where it did so here it is not counted twice.

    Raises:
        FinetuneKitError: That the job ended with.
    """
    if outcome.error is not None:
        raise outcome.error
    run = FinishedRun(outcome.job.folder)
    if run.config["evaluate"]["test"]:
        try:
            key = run.state["config_key"]
            record_opening(run.state["test_content_key"], key, name=run.state["name"], run_path=run.path)
        except RunFolderError as exc:
            progress.say(f"warning: this opening of the test split is not counted: {exc}")
    return read_result(run.path)
