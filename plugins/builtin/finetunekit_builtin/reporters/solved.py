"""Whether a finished run trained at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetunekit import FinishedRun


def is_solved(run: FinishedRun) -> bool:
    """Whether every stage was solved: no epochs, no batches."""
    stages = run.config.get("stages") or ()
    return bool(stages) and all(stage.get("kind") == "solve" for stage in stages)
