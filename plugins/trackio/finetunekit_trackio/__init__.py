"""Tracker `trackio`: a run in Trackio, through `init`, `log` and `finish`, the calls that W&B has too."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from finetunekit import Options, TrackedEnd, TrackedRun, hookimpl
from finetunekit.hookspecs import Register


class TrackioOptions(Options):
    """Options of `trackio`."""

    project: str = Field("finetunekit", min_length=1, pattern=r"^[\w.-]+$", description="Name of the project.")
    space: str | None = Field(None, description="Hugging Face Space to send to; null: the local store.")
    library: Literal["trackio", "wandb"] = Field("trackio", description="Whose `init`, `log` and `finish` are called.")


class TrackioTracker:
    """One run. What the library was given is safe with it when `finish` returns, so each epoch ends with one."""

    def __init__(self, options: TrackioOptions) -> None:
        self._options = options

    def start(self, run: TrackedRun) -> str:
        """Name the run, with a part of its key; it is opened with its first epoch."""
        self._name = run.run_id or f"{run.name}-{run.key[:6]}"
        about = {f"about.{key}": value for key, value in run.tags.items()}
        self._about: dict[str, Any] = {"config": {**run.params, **about}, "group": _group(run)}
        self._key, self._last = run.key, run.next_step - 1
        return self._name

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None:
        """One row, unless a process that was killed has left it there."""
        self._log({f"epoch/{name}": value for name, value in values.items()}, step)

    def finish(self, end: TrackedEnd) -> None:
        """Scores and verdict with the last epoch; the files as one artefact."""
        with self._opened() as library:
            library.log({**end.scores, "verdict": end.verdict, "status": "finished"}, step=end.step)
            artifact = library.Artifact(self._name, type="run")
            for name, path in end.artefacts.items():
                artifact.add_file(str(path), name=name)
            library.log_artifact(artifact)

    def fail(self, status: str) -> None:
        """A row that says so."""
        with self._opened() as library:
            library.log({"status": status}, step=self._last)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        with self._opened() as library:
            if step >= self._next_step:
                library.log(dict(values), step=step)
        self._last = step

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        """The library while it has this run open; what it was given is stored when this is over."""
        library = importlib.import_module(self._options.library)
        own: dict[str, Any] = {"id": self._key}  # W&B resumes by id, Trackio by name
        if self._options.library == "trackio":
            own = {"space_id": self._options.space, "embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
        with contextlib.redirect_stdout(io.StringIO()):  # a greeting and a farewell for each epoch
            run = library.init(project=self._options.project, name=self._name, resume="allow", **self._about, **own)
            self._next_step = getattr(run, "_next_step", 0)  # Trackio keeps two rows of one step; W&B keeps the first
            try:
                yield library
            finally:
                library.finish()


def _group(run: TrackedRun) -> str | None:
    return f"{run.group}-{run.group_key[:6]}" if run.group_key else None


@hookimpl
def register_trackers(register: Register) -> None:
    """One tracker."""
    register("trackio", TrackioTracker, TrackioOptions)
