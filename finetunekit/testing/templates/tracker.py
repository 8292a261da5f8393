"""Tracker `my_component`: the numbers of a run as lines of JSON, one file per run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from finetunekit import Options, TrackedEnd, TrackedRun, Tracker, hookimpl
from finetunekit.hookspecs import Register


class MyComponentOptions(Options):
    """Options of `my_component`."""

    folder: str = Field("tracked", min_length=1, description="Folder of the files, relative to the working directory.")


class MyComponentTracker:
    """One run. Everything here runs in a separate thread and may take its time; what it raises becomes one
    warning."""

    def __init__(self, options: MyComponentOptions) -> None:
        """Take the options; nothing is written yet."""
        self._folder = Path(options.folder)
        self._path = self._folder

    def start(self, run: TrackedRun) -> str:
        """Begin the file, or continue it: steps from `run.next_step` on will be sent (again)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = (self._folder / f"{run.name}.jsonl").resolve()
        old = self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []
        kept = [line for line in old if 0 < json.loads(line).get("step", 0) < run.next_step]
        lines = [json.dumps({"params": dict(run.params), "tags": dict(run.tags)}), *kept]
        self._path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return run.name

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None:
        """Write one line per epoch."""
        self._append({"step": step, "at_s": at_s, **values})

    def finish(self, end: TrackedEnd) -> None:
        """Write the scores, each with its denominator and both ends of its interval."""
        self._append({"status": "finished", "verdict": end.verdict, **end.scores})

    def fail(self, status: str) -> None:
        """Record how the run stopped."""
        self._append({"status": status})

    def _append(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def build_my_component(options: MyComponentOptions) -> Tracker:
    """A tracker for one run; nothing is sent yet."""
    return MyComponentTracker(options)


@hookimpl
def register_trackers(register: Register) -> None:
    """One tracker."""
    register("my_component", build_my_component, MyComponentOptions)
