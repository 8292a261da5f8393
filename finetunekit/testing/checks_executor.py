"""The contract of an executor."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from finetunekit.config.plan import Chosen
from finetunekit.engine.jobs import carry_out
from finetunekit.errors import FinetuneKitError, RunError
from finetunekit.runs.folder import FORMAT, FinishedRun
from finetunekit.system.progress import Progress
from finetunekit.testing import tiny_job
from finetunekit.testing.contract import Subject, choose
from finetunekit.testing.guards import watched_output
from finetunekit.types import Builder, Job, Options, Outcome

_ENDINGS: tuple[tiny_job.Ending, ...] = ("finish", "fail", "die once", "finish")


def check_executor(build: Builder, options: Options | None = None) -> None:
    """Check an executor with jobs that train nothing: they finish, fail, are killed once, or go on until they are stopped.

    Args:
        build: The builder that the plugin registers.
        options: An instance of its options; default: `Options()`.

    Raises:
        ContractError: If it does not give back each job once, finished in its folder or with the error that it ended with; does not take
            up again, in the same folder, a job whose process was killed; keeps jobs running when it is closed; does not let through
            what is raised where it asks for the next job; prints to stdout, draws from the global random numbers, or leaves a thread
            behind that keeps the process from ending; or if its options are not as they should be.
    """
    verify_executor(choose("executor", build, options))


def verify_executor(chosen: Chosen) -> None:
    """`check_executor` of a component as a plan holds it."""
    subject, threads = Subject(chosen), set(threading.enumerate())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, watched_output(subject):
        for name, check in (("ended", _check_endings), ("stopped", _check_stop), ("cut", _check_fault)):
            with subject.part(), subject.during(f"carrying out jobs ({name})"):
                check(subject, Path(scratch) / name)
    left = [thread.name for thread in set(threading.enumerate()) - threads if not thread.daemon]
    subject.expect(
        not left, f"leaves a thread behind ({', '.join(left[:3])}) that is not a daemon; the process could not end."
    )
    subject.settle()


def _check_endings(subject: Subject, folder: Path) -> None:
    """Of each job as it should be; that each comes back once, and finished where it says so, is looked at by the engine."""
    jobs = [_job(folder / f"{number} {ending}", ending) for number, ending in enumerate(_ENDINGS)]
    for outcome in carry_out(subject.chosen, iter(jobs), Progress(is_quiet=True)):
        _check_ending(subject, outcome)
    for job, ending in zip(jobs, _ENDINGS, strict=True):
        begun, most = tiny_job.attempts(job.folder), 2 if ending == "die once" else 1
        subject.expect(1 <= begun <= most, f"begins a job that can {ending} {begun} times.")


def _check_ending(subject: Subject, outcome: Outcome) -> None:
    label, error = outcome.job.label, outcome.error
    if label != "fail":
        again = " It was killed once, and has to be taken up again in its folder." if label == "die once" else ""
        subject.expect(error is None, f"gives back a job that can {label} with an error: {error}.{again}")
    else:
        is_same = isinstance(error, RunError) and str(error) == tiny_job.TEXT
        words = f"must give back the error that a job ended with: RunError, {tiny_job.TEXT!r}. Received: {error!r:.200}"
        subject.expect(is_same, words)


def _check_stop(subject: Subject, folder: Path) -> None:
    """Closed after the first outcome, while another job may be under way."""
    jobs = [_job(folder / "0", "finish"), _job(folder / "1", "wait")]
    with contextlib.closing(carry_out(subject.chosen, iter(jobs), Progress(is_quiet=True))) as outcomes:
        first = next(outcomes)
        subject.expect(first.job.label == "finish", f"gives back a job as ended that goes on: {first.error}.")
    status = FinishedRun(jobs[1].folder).state["status"]
    subject.expect(status != "running", "leaves a job running, or killed without warning, when it is closed.")


def _check_fault(subject: Subject, folder: Path) -> None:
    """Where the next job cannot be made, that is what whoever asked has to hear."""
    fault = FinetuneKitError("the kit has no more jobs")

    def jobs() -> Iterator[Job]:
        yield _job(folder / "0", "finish")
        raise fault

    try:
        for _ in carry_out(subject.chosen, jobs(), Progress(is_quiet=True)):
            pass
    except FinetuneKitError as exc:
        subject.expect(exc is fault, f"hides what is raised where it asks for the next job: {exc}")
    else:
        subject.expect(False, "hides what is raised where it asks for the next job.")


def _job(folder: Path, ending: tiny_job.Ending) -> Job:
    made = tiny_job.make_folder(folder, ending, FORMAT)
    here: Callable[[], None] = partial(tiny_job.carry_out, made)
    return Job(made, ending, ("-P", "-m", "finetunekit.testing.tiny_job"), here)
