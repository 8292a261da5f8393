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


#: W&B only logs what it is told: not the console, not the machine, no code.
_WANDB = {"console": "off", "silent": True, "disable_code": True, "disable_git": True, "x_disable_stats": True}


class TrackioTracker:
    """One run. What Trackio was given is safe with it when its `finish` returns, so each epoch ends with one; W&B keeps what it logs."""

    def __init__(self, options: TrackioOptions) -> None:
        self._options = options
        self._run: Any = None

    def start(self, run: TrackedRun) -> str:
        """Name the run, with a part of its key; it is opened with its first epoch."""
        self._name = run.run_id or f"{run.name}-{run.key[:6]}"
        about = {f"about.{key}": value for key, value in run.tags.items()}
        self._about: dict[str, Any] = {"config": {**run.params, **about}, "group": _group(run)}
        self._key, self._last = run.key, run.next_step - 1
        return self._name

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None:
        """One row, unless a process that was killed has left it there."""
        with self._opened() as library:
            if step >= getattr(self._run, "_next_step", 0):  # Trackio keeps two rows of one step; W&B keeps the first
                library.log({f"epoch/{name}": value for name, value in values.items()}, step=step)
        self._last = step

    def finish(self, end: TrackedEnd) -> None:
        """Scores and verdict with the last epoch; the files as one artefact."""
        with self._opened(is_last=True) as library:
            library.log({**end.scores, "verdict": end.verdict, "status": "finished"}, step=end.step)
            artifact = library.Artifact(self._name, type="run")
            for name, path in end.artefacts.items():
                artifact.add_file(str(path), name=name)
            library.log_artifact(artifact)

    def fail(self, status: str) -> None:
        """A row that says so."""
        with self._opened(is_last=True) as library:
            library.log({"status": status}, step=self._last)

    @contextlib.contextmanager
    def _opened(self, *, is_last: bool = False) -> Iterator[Any]:
        """The library while it has this run open."""
        library, is_wandb = importlib.import_module(self._options.library), self._options.library == "wandb"
        own: dict[str, Any] = {"id": self._key, "settings": _WANDB}  # W&B resumes by id, Trackio by name
        if not is_wandb:
            own = {"space_id": self._options.space, "embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
        with contextlib.redirect_stdout(io.StringIO()):  # a greeting and a farewell for each epoch
            if self._run is None:
                self._run = library.init(
                    project=self._options.project, name=self._name, resume="allow", **self._about, **own
                )
            try:
                yield library
            finally:
                if is_last or not is_wandb:
                    library.finish()
                    self._run = None


def _group(run: TrackedRun) -> str | None:
    return f"{run.group}-{run.group_key[:6]}" if run.group_key else None


@hookimpl
def register_trackers(register: Register) -> None:
    """One tracker."""
    register("trackio", TrackioTracker, TrackioOptions)
