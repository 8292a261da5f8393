"""A tracker: one table for all runs, `results.csv`, a row each; a spreadsheet opens it while they train."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from finetunekit import Options, TrackedEnd, TrackedRun, Tracker, hookimpl
from finetunekit.hookspecs import Register

SCORES = ("test/accuracy", "test/accuracy/low", "test/accuracy/high", "test/accuracy/photos")
COLUMNS = ("run", "preset", "status", "epoch", "val_loss", *SCORES)


class ResultsOptions(Options):
    """Options of `results`."""

    file: str = Field("results.csv", min_length=1, description="The table, relative to the working directory.")


class ResultsTracker:
    """One row. Everything here is called in a separate thread and may take its time; what it raises becomes one
    warning."""

    def __init__(self, options: ResultsOptions) -> None:
        self._path = Path(options.file).resolve()
        self._row: dict[str, str | float] = {}

    def start(self, run: TrackedRun) -> str:
        """Begin the row, or continue it: a run that was killed comes again under the name that this returned."""
        self._row = {"run": run.run_id or run.name, "preset": run.tags["preset"]}
        self._write(status="running")
        return str(self._row["run"])

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None:
        """Record the last epoch; sending one twice changes nothing."""
        self._write(epoch=step, val_loss=values.get("val_loss", ""))

    def finish(self, end: TrackedEnd) -> None:
        """Record the accuracy, with its denominator and both ends of its interval."""
        self._write(status="finished", **{name: end.scores[name] for name in SCORES if name in end.scores})

    def fail(self, status: str) -> None:
        """Record how the run stopped."""
        self._write(status=status)

    def _write(self, **changes: str | float) -> None:
        self._row |= changes
        rows = []
        if self._path.is_file():
            with self._path.open(encoding="utf-8", newline="") as stream:
                rows = [row for row in csv.DictReader(stream) if row["run"] != self._row["run"]]
        with self._path.open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, COLUMNS)
            table.writeheader()
            table.writerows([*rows, self._row])


def build_results(options: ResultsOptions) -> Tracker:
    """A tracker for one run; nothing is written yet."""
    return ResultsTracker(options)


@hookimpl
def register_trackers(register: Register) -> None:
    """One tracker."""
    register("results", build_results, ResultsOptions)
