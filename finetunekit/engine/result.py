"""What a run, or several runs of one configuration, come back as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run.

    Attributes:
        path: The run folder.
        metrics: Content of `metrics.json`.
        summary: Sentences for the user, at most 80 columns a line.
    """

    path: Path
    metrics: Mapping[str, Any]
    summary: tuple[str, ...]

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        from finetunekit.reports.notebook import result_html

        return result_html(self.path, self.metrics, self.summary)


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Finished runs in one folder.

    Attributes:
        path: Their folder; the runs lie in it.
        runs: One result a seed or a fold.
        scores: Content of `seeds.json`, with the mean over seeds and its intervals, or of `cross_validation.json`, with the scores of
            all photos, each predicted by the run that never saw it.
        summary: Sentences for the user, at most 80 columns a line.
    """

    path: Path
    runs: tuple[RunResult, ...]
    scores: Mapping[str, Any]
    summary: tuple[str, ...]
