"""Trackers: each is brought up to date with the run folder, in a thread of its own, and never costs the run anything.

The run folder is the queue: a tracker that is behind, because it failed, hung or was not there, catches up from it. `trackers.json`
holds how far each is. Secrets never get there: it holds ids and counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from finetunekit.config.plan import Chosen
from finetunekit.errors import FinetuneKitError, PluginError, RunFolderError
from finetunekit.plugins.components import component_label
from finetunekit.runs.folder import STATE, FinishedRun
from finetunekit.runs.tracked_run import tracked_end, tracked_epochs, tracked_run
from finetunekit.system.files import to_json, write_whole
from finetunekit.system.formatting import one_line
from finetunekit.system.secrets import without_secrets
from finetunekit.types import Tracker

TRACKERS = "trackers.json"
PATIENCE_S = 2.0
"""How long the end of a run waits for all its trackers together."""

RUNNING, FINISHED = "running", "finished"
STOPPED = ("failed", "interrupted", "killed", "pruned")


def tracker_key(chosen: Chosen) -> str:
    """By which `trackers.json` knows a tracker: its name, and a digest of its options, which say where it sends to."""
    options = json.dumps(chosen.options.model_dump(mode="json"), sort_keys=True)
    return f"{chosen.name}-{hashlib.sha256(options.encode()).hexdigest()[:8]}"


def read_notes(path: Path) -> dict[str, dict[str, Any]]:
    """How far each tracker of a run is: `run_id`, `epochs` sent, and the `status` it was told last; empty where there is none."""
    return dict(FinishedRun(path).optional(TRACKERS) or {})


class Sender:
    """Brings one tracker up to date with one run folder. For one thread.

    Attributes:
        chosen: The tracker.
        path: The run folder.
    """

    def __init__(self, chosen: Chosen, path: Path, lock: threading.Lock | None = None) -> None:
        self.chosen, self.path, self._lock = chosen, path, lock or threading.Lock()
        self._tracker: Tracker | None = None
        self.note = read_notes(path).get(tracker_key(chosen), {"run_id": None, "epochs": 0, "status": None})

    def is_behind(self, status: str) -> bool:
        """Whether the tracker lacks something of a run that stands so."""
        return bool(self.note["status"] != status or self.note["epochs"] < len(tracked_epochs(FinishedRun(self.path))))

    def catch_up(self, status: str) -> None:
        """Send what the tracker lacks.

        Args:
            status: How the run stands: `running`, `finished`, `failed`, `interrupted` or `killed`.

        Raises:
            Whatever the tracker raises; RunFolderError if the folder cannot be read or written.
        """
        run = FinishedRun(self.path)
        epochs = tracked_epochs(run)
        if self._tracker is None:
            self._open(run, next((e.step for e in epochs[self.note["epochs"] :]), len(epochs) + 1))
        tracker = cast(Tracker, self._tracker)
        for epoch in epochs[self.note["epochs"] :]:
            tracker.epoch(epoch.step, epoch.values, epoch.at_s)
            self._write(epochs=self.note["epochs"] + 1)
        if status == FINISHED:
            tracker.finish(tracked_end(run))
        elif status in STOPPED:
            tracker.fail(status)
        self._write(status=status)

    def _open(self, run: FinishedRun, next_step: int) -> None:
        tracker = self.chosen.registered.build(self.chosen.options)
        run_id = tracker.start(tracked_run(run, self.note["run_id"], next_step))
        if not isinstance(run_id, str) or not run_id:
            raise PluginError(
                f"{component_label(self.chosen)}: start must return the id of the run. Received: {run_id!r}"
            )
        self._tracker = tracker
        self._write(run_id=run_id, status=RUNNING)

    def _write(self, **what: Any) -> None:
        changed = {**self.note, **what}
        if changed != self.note:
            self.note = changed
            with self._lock:  # trackers of one run share the file
                write_whole(self.path / TRACKERS, to_json({**read_notes(self.path), tracker_key(self.chosen): changed}))


class _TrackerThread:
    """One tracker behind a queue. Nothing in here waits for it but `close`, and that not for long."""

    def __init__(self, chosen: Chosen, path: Path, lock: threading.Lock) -> None:
        self.chosen, self.path, self._lock = chosen, path, lock
        self.problem: str | None = None
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        name = f"finetunekit-{chosen.name}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def tell(self, status: str) -> None:
        """Something happened; the folder says what."""
        self._queue.put(status)

    def close(self, deadline_s: float) -> None:
        """Wait until everything is sent, or until a moment of the monotonic clock."""
        self._queue.put(None)
        self._thread.join(max(0.0, deadline_s - time.monotonic()))
        if self._thread.is_alive() and self.problem is None:
            self.problem = f"{component_label(self.chosen)} has not answered in time"

    def _work(self) -> None:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                sender = Sender(self.chosen, self.path, self._lock)
                while (status := self._queue.get()) is not None:
                    sender.catch_up(status)
        except BaseException as exc:  # noqa: BLE001 - a tracker must not stop the run; it is named
            self.problem = describe_failure(self.chosen, exc)


def describe_failure(chosen: Chosen, exc: BaseException) -> str:
    """One line without secrets."""
    name = "" if isinstance(exc, FinetuneKitError) else f"{type(exc).__name__}: "
    return f"{component_label(chosen)} failed: {name}{one_line(without_secrets(str(exc)) or type(exc).__name__)}"


class RunTrackers:
    """The trackers of one run while it goes on.

    Attributes:
        path: The run folder.
        say: Receives one warning a tracker at most.
    """

    def __init__(self, trackers: Sequence[Chosen], path: Path, say: Callable[[str], None]) -> None:
        self.path, self.say, self._chosen = path, say, trackers
        self._threads: list[_TrackerThread] = []
        self._warned: set[str] = set()
        self._stdout = sys.stdout

    def tell(self, status: str = RUNNING) -> None:
        """Something happened. The first time, the run is opened: its photos, weights and environment are known by then."""
        if self._chosen and not self._threads:
            lock = threading.Lock()
            self._stdout = sys.stdout
            self._threads = [_TrackerThread(chosen, self.path, lock) for chosen in self._chosen]
        for thread in self._threads:
            thread.tell(status)
        self._warn()

    def close(self, status: str) -> None:
        """The run ended so: wait for the trackers, `PATIENCE_S` at most; those never told of the run are not told of its end."""
        deadline_s = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.tell(status)
        for thread in self._threads:
            thread.close(deadline_s)
        if self._threads:
            sys.stdout = self._stdout  # one that hangs would keep it
        self._warn()
        self._threads, self._chosen = [], ()

    def _warn(self) -> None:
        for thread in self._threads:
            if thread.problem and thread.chosen.name not in self._warned:
                self._warned.add(thread.chosen.name)
                self.say(
                    f"warning: {thread.problem}. What it lacks is kept; send it with: "
                    f"finetunekit track {shlex.quote(str(self.path))}"
                )


def is_marked_running(path: Path) -> bool:
    """Whether a tracker of this run was last told that it is running."""
    try:
        return (path / TRACKERS).is_file() and any(note["status"] == RUNNING for note in read_notes(path).values())
    except (RunFolderError, KeyError, TypeError):
        return False


def has_begun(path: Path) -> bool:
    """Whether a run trained at all, so that there is something to track."""
    return (path / STATE).is_file() and "stages" in FinishedRun(path).state
