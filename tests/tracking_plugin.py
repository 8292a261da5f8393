"""A tracker that writes every call down, beside one that misbehaves as the environment asks: for `tests/runs/test_tracking.py`."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from finetunekit import Options, TrackedEnd, TrackedRun, hookimpl
from finetunekit.hookspecs import Register


class WrittenOptions(Options):
    """Where to."""

    file: str = Field("written.jsonl", description="Relative to the working directory.")
    uri: str = Field("", description="An address.")


class Written:
    """One line a call."""

    def __init__(self, options: WrittenOptions) -> None:
        self.path = Path(options.file).resolve()

    def start(self, run: TrackedRun) -> str:
        self._meet("start")
        what = {
            "key": run.key,
            "group": run.group,
            "group_key": run.group_key,
            "params": dict(run.params),
            "tags": dict(run.tags),
        }
        self._add(call="start", run_id=run.run_id, next_step=run.next_step, **what)
        return run.run_id or f"id-{run.name}"

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None:
        self._meet(f"epoch {step}")
        self._add(call="epoch", step=step, at_s=at_s, values=dict(values))

    def finish(self, end: TrackedEnd) -> None:
        self._meet("finish")
        self._add(call="finish", scores=dict(end.scores), verdict=end.verdict, files=sorted(end.artefacts))

    def fail(self, status: str) -> None:
        self._add(call="fail", status=status)

    def _add(self, **what: Any) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(what) + "\n")

    def _meet(self, moment: str) -> None:
        random.random()
        np.random.random()
        print("a line that belongs to nobody")
        if os.environ.get("TRACKER_FAILS") == moment:
            raise OSError(f"no answer from https://me:hunter2@example.org with {os.environ.get('TRACKER_TOKEN')}")
        if os.environ.get("TRACKER_HANGS") == moment:
            threading.Event().wait()


@hookimpl
def register_trackers(register: Register) -> None:
    register("written", Written, WrittenOptions)


@hookimpl
def after_epoch(row: Mapping[str, Any]) -> None:
    if os.environ.get("RUN_STOPS") == str(row["epoch"]):
        raise KeyboardInterrupt
