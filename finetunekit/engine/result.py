"""What a run comes back as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetunekit.runs.folder import BASELINES, NEXT_STEPS, FinishedRun


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run.

    Attributes:
        path: The run folder.
        metrics: Content of `metrics.json`.
        summary: Sentences for the user, in lines of at most 80 columns.
    """

    path: Path
    metrics: Mapping[str, Any]
    summary: tuple[str, ...]

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        from finetunekit.reports.notebook import result_html

        return result_html(self.path, self.metrics, self.summary)


def read_result(path: Path) -> RunResult:
    """The result of a finished run, from the files of its folder.

    Raises:
        RunFolderError: If a file is missing or damaged.
    """
    from finetunekit.engine.summary import summary_lines
    from finetunekit.runs.test_split_ledger import Openings

    run = FinishedRun(path)
    openings = Openings(**run.metrics["openings"]) if run.metrics["openings"] else None
    seconds = run.metrics["seconds"]["whole"]
    return RunResult(
        path,
        run.metrics,
        summary_lines(
            run.metrics, openings, seconds, baselines=run.optional(BASELINES), steps=run.optional(NEXT_STEPS)
        ),
    )
