"""A run in one line, for whoever is about to use it: which it is, what it tells apart, how good it is."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from finetunekit.runs.folder import METRICS, FinishedRun, read_status, unfinished_since
from finetunekit.system.formatting import counted
from finetunekit.system.terminal import printable

_NAMED = 6


def introduce(run: FinishedRun, *, asked: str, out: str | Path) -> Iterator[str]:
    """Lines on a run that was asked for.

    Args:
        run: The run.
        asked: As the user called it; with `last`, what was begun since and not finished is named too.
        out: Folder of runs.
    """
    yield f"with {run.path.name} ({_classes(run)}): {_how_good(run)}"
    if asked == "last":
        for path in unfinished_since(run.path, Path(out)):
            verb = f"finetunekit resume {shlex.quote(str(path))}"
            yield f"note: {path.name}, started since then, is not finished ({read_status(path)}); to resume it: {verb}"


def _classes(run: FinishedRun) -> str:
    names = ", ".join(map(printable, run.classes[:_NAMED]))
    return names if len(run.classes) <= _NAMED else f"{names} and {len(run.classes) - _NAMED} more"


def _how_good(run: FinishedRun) -> str:
    metrics = run.optional(METRICS) or {}
    for split, photos in (("test", "test photo"), ("valid", "validation photo")):
        accuracy = (metrics.get(split) or {}).get("accuracy")
        if accuracy:
            return f"{accuracy['successes']:,} of {counted(accuracy['photos'], photos)} right"
    return f"not scored, the run is {read_status(run.path)}"
