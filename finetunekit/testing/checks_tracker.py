"""The contract of a tracker."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from pathlib import Path

from finetunekit.config.plan import Chosen
from finetunekit.plugins.components import call_builder
from finetunekit.runs.folder import FinishedRun
from finetunekit.runs.tracked_run import tracked_end, tracked_epochs, tracked_run
from finetunekit.runs.tracking import FINISHED, TRACKERS, Sender, tracker_key
from finetunekit.system.environment import start_tensorflow
from finetunekit.system.files import to_json
from finetunekit.testing.contract import Subject, choose
from finetunekit.testing.data import AWKWARD_CLASSES, tiny_run
from finetunekit.testing.guards import changed, fingerprint, watched_output
from finetunekit.types import Builder, Options, Tracker

_CALLS = ("start", "epoch", "finish", "fail")


def check_tracker(build: Builder, options: Options | None = None, *, run: Path | None = None) -> None:
    """Check a tracker with a tiny finished run: killed after its first epoch, resumed, finished. It works in an empty folder.

    A tracker that is sent elsewhere by options or environment variables really sends there.

    Args:
        build: The builder that the plugin registers.
        options: An instance of its options; default: `Options()`.
        run: Run folder; default: one is made (`tiny_run(folder, classes=AWKWARD_CLASSES)`). It is copied, not changed.

    Raises:
        ContractError: If it lacks `start`, `epoch`, `finish` or `fail`; if `start` does not return the id of the run, or another one
            when the run goes on; if it prints to stdout, draws from the global random numbers that the run may use, changes the
            run folder, or leaves a thread behind that keeps the process from ending; or if its options are not as they should be.
    """
    verify_tracker(choose("tracker", build, options), run)


def verify_tracker(chosen: Chosen, run: Path | None = None) -> None:
    """`check_tracker` of a component as a plan holds it."""
    start_tensorflow()
    subject = Subject(chosen)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        made = run or tiny_run(Path(scratch) / "tiny", classes=AWKWARD_CLASSES)
        copy = Path(scratch) / "copy" / made.name
        shutil.copytree(made, copy)
        work = Path(scratch) / "work"
        work.mkdir()
        before, threads = fingerprint(copy), set(threading.enumerate())
        with contextlib.chdir(work), watched_output(subject), subject.part():
            _send_twice(subject, FinishedRun(copy))
        altered = changed(before, fingerprint(copy))
        subject.expect(not altered, f"changes the run folder ({', '.join(Path(path).name for path in altered[:3])}).")
        left = [thread.name for thread in set(threading.enumerate()) - threads if not thread.daemon]
        subject.expect(
            not left, f"leaves a thread behind ({', '.join(left[:3])}) that is not a daemon; the process could not end."
        )
    subject.settle()


def tracked_tiny_run(build: Builder, options: Options, folder: Path, *, run: Path | None = None) -> FinishedRun:
    """Send a run to a tracker as the engine does where it was killed after an epoch that it had sent but not noted, and was resumed.

    Args:
        build: The builder that the plugin registers.
        options: An instance of its options; relative paths in them are of `folder`.
        folder: Is there already; the run is copied into it, to `runs/`.
        run: Run folder; default: one is made by `tiny_run`. It is not changed.

    Returns:
        The copy. Read back from the tracker, each of its epochs has to be there once.
    """
    made = run or tiny_run(folder / "tiny", classes=AWKWARD_CLASSES)
    copy = Path(shutil.copytree(made, folder / "runs" / made.name))
    chosen = choose("tracker", build, options)
    with contextlib.chdir(folder):
        killed = Sender(chosen, copy)
        killed.catch_up("killed")
        notes = {tracker_key(chosen): {**killed.note, "epochs": killed.note["epochs"] - 1}}
        (copy / TRACKERS).write_text(to_json(notes), encoding="utf-8")
        Sender(chosen, copy).catch_up(FINISHED)
    return FinishedRun(copy)


def _send_twice(subject: Subject, run: FinishedRun) -> None:
    """One epoch and a kill; then, by another instance, the rest."""
    first, second = tracked_epochs(run)[:2]
    with subject.during("tracking a run that was killed"):
        tracker = _build(subject)
        run_id = tracker.start(tracked_run(run, None, 1))
        subject.require(
            isinstance(run_id, str) and run_id, f"start must return the id of the run. Received: {run_id!r:.80}"
        )
        tracker.epoch(first.step, first.values, first.at_s)
        tracker.fail("killed")
    with subject.during("going on with a tracked run"):
        tracker = _build(subject)
        again = tracker.start(tracked_run(run, run_id, second.step))
        subject.require(
            again == run_id, f"start must go on with the run that run_id names ({run_id}). Received: {again!r:.80}"
        )
        tracker.epoch(second.step, second.values, second.at_s)
    with subject.during("finishing a tracked run"):
        tracker.finish(tracked_end(run))


def _build(subject: Subject) -> Tracker:
    tracker: Tracker = call_builder(subject.chosen)
    missing = [name for name in _CALLS if not callable(getattr(tracker, name, None))]
    subject.require(not missing, f"what its builder returns has no {' and no '.join(missing)}.")
    return tracker
