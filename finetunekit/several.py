"""What several runs of one configuration, by seed or by fold, come back as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetunekit.engine import RunResult


@dataclass(frozen=True, slots=True)
class SeveralRuns:
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
