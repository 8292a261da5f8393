"""Tracker `tensorboard`: a run as event files that TensorBoard reads, its scores and configuration as text and hyperparameters."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from finetunekit import Options, TrackedEnd, TrackedRun, hookimpl
from finetunekit.hookspecs import Register

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

STATUS = "status.txt"


class TensorboardOptions(Options):
    """Options of `tensorboard`."""

    folder: str = Field("tensorboard", min_length=1, description="Folder that TensorBoard is given as `--logdir`.")


class TensorboardTracker:
    """One run: a folder of event files, named as the run folder, inside the folder of its group where it has one."""

    def __init__(self, options: TensorboardOptions) -> None:
        self._root = Path(options.folder).resolve()

    def start(self, run: TrackedRun) -> str:
        """Begin a file; TensorBoard drops steps that it begins with from the files of a process that was killed."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        name = run.run_id or "/".join(filter(None, (_group(run), f"{run.name}-{run.key[:6]}")))
        self._path = self._root / name
        self._path.mkdir(parents=True, exist_ok=True)
        self._writer: EventFileWriter = EventFileWriter(str(self._path))
        self._note("running")
        self._purge(run.next_step)
        if run.next_step > 1:
            return name
        tables = (_table("configuration", run.params), _table("about", run.tags))
        self._add(0, run.started_s, *tables, hparams_pb(dict(run.params), run.key, run.started_s))
        return name

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None:
        """One scalar a column."""
        self._add(step, at_s, _scalars({f"epoch/{name}": value for name, value in values.items()}))

    def finish(self, end: TrackedEnd) -> None:
        """Scores as scalars at the last epoch, and as a table; of files the paths, since TensorBoard keeps none."""
        files = {name: path.resolve() for name, path in end.artefacts.items()}
        tables = (_table("scores", end.scores), _table("verdict", {"verdict": end.verdict}), _table("files", files))
        self._add(end.step, end.ended_s, _scalars(end.scores), *tables)
        self._end("finished")

    def fail(self, status: str) -> None:
        """A text, and a file beside the event files: TensorBoard itself knows no status."""
        self._add(0, time.time(), _table("status", {"status": status}))
        self._end(status)

    def _purge(self, next_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        session = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=next_step, session_log=session))

    def _add(self, step: int, at_s: float, *summaries: Summary) -> None:
        """Written to the disk when this returns."""
        from tensorboard.compat.proto.event_pb2 import Event

        for summary in summaries:
            self._writer.add_event(Event(wall_time=at_s, step=step, summary=summary))
        self._writer.flush()

    def _end(self, status: str) -> None:
        self._writer.close()
        self._note(status)

    def _note(self, status: str) -> None:
        (self._path / STATUS).write_text(f"{status}\n", encoding="utf-8")


def _scalars(values: Mapping[str, float]) -> Summary:
    """As simple values: TensorBoard's reader drops what was left by a killed process of these, not of tensors."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    named = {re.sub(r"[^-/\w.]", "_", name): value for name, value in values.items()}
    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in named.items()])


def _table(name: str, values: Mapping[str, Any]) -> Summary:
    """A table in the tab of texts."""
    from tensorboard.plugins.text.summary_v2 import text_pb

    rows = [("", ""), ("---", "---"), *((_cell(key), _cell(value)) for key, value in values.items())]
    return text_pb(name, "\n".join(f"| {key} | {value} |" for key, value in rows))


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "/").split())


def _group(run: TrackedRun) -> str | None:
    return f"{run.group}-{run.group_key[:6]}" if run.group_key else None


@hookimpl
def register_trackers(register: Register) -> None:
    """One tracker."""
    register("tensorboard", TensorboardTracker, TensorboardOptions)
