"""What happens in a run, told once: to the listeners of plugins, then to the run's trackers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from finetunekit.config.plan import Plan
from finetunekit.plugins.host import PluginHost
from finetunekit.runs.tracking import FINISHED, RunTrackers


class RunEvents:
    """The one path on which a run says what happens. Nobody who hears of it can stop the run."""

    def __init__(self, plan: Plan, host: PluginHost, path: Path, say: Callable[[str], None]) -> None:
        self._plan, self._host, self._path = plan, host, path
        self._trackers = RunTrackers(plan.track, path, say)

    def before_run(self) -> None:
        """The run is about to read its photos."""
        self._host.notify("before_run", plan=self._plan, run_path=self._path)

    def stage_began(self) -> None:
        """A stage is about to train; from the first one on the folder says all that a tracker is told at the start."""
        self._trackers.tell()

    def after_epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is in the log."""
        self._host.notify("after_epoch", row=row, run_path=self._path)
        self._trackers.tell()

    def after_stage(self, stage: str, rows: tuple[Mapping[str, Any], ...]) -> None:
        """A stage ended."""
        self._host.notify("after_stage", stage=stage, rows=rows, run_path=self._path)

    def after_run(self, metrics: Mapping[str, Any]) -> None:
        """The run ended well, reports included."""
        self._host.notify("after_run", metrics=metrics, run_path=self._path)
        self._trackers.tell()  # opens the run where another process trained it
        self._trackers.close(FINISHED)

    def stopped(self, status: str) -> None:
        """The run was `interrupted`, or has `failed`; its folder says so."""
        self._trackers.close(status)
