"""What a finished run holds, for whoever reads run folders: written from the docstrings and tables of the code that writes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from finetunekit.config.plan import Chosen, Plan, PlannedStage
from finetunekit.engine.score import METRICS_KEYS
from finetunekit.runs.folder import FinishedRun
from finetunekit.statistics import calibration, confusion, intervals, macro, scores
from finetunekit.training.run_log import EPOCH_COLUMNS

_HEAD = """\
<!-- Written by docs/generate.py from docstrings: change those and run `make docs`. -->

# What a run holds

A reporter gets a `FinishedRun`; `finetunekit.FinishedRun(Path("runs/NAME"))` opens one anywhere. A listener's
`before_run` gets the `Plan`,
`after_epoch` gets a row of `epochs.csv` with numbers as numbers, and `after_run` gets the content of `metrics.json`.
"""
_SCORES = (
    scores.Scores,
    scores.TopKScore,
    scores.MeanScore,
    confusion.Proportion,
    intervals.Interval,
    confusion.ClassScores,
    macro.MacroScore,
    calibration.Calibration,
    calibration.CalibrationError,
    calibration.ReliabilityBin,
)


def render_run_folder(value: Callable[[type[Any]], str]) -> str:
    """The page.

    Args:
        value: Renders a dataclass.
    """
    parts = [_HEAD, "## FinishedRun", *_finished_run()]
    parts += [
        "## Plan",
        "The plan is frozen. `plan.json` holds it as plain values.",
        *map(value, (Plan, Chosen, PlannedStage)),
    ]
    parts += [
        "## epochs.csv",
        "It has one row per epoch; `FinishedRun.epochs` gives texts.",
        _table("column", EPOCH_COLUMNS),
    ]
    parts += ["## metrics.json", _table("key", METRICS_KEYS)]
    parts += ["### What scores are made of", "In the JSON file, each attribute is a key.", *map(value, _SCORES)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _finished_run() -> Iterator[str]:
    yield "Everything is read when you access it. JSON gives plain values, CSV gives texts."
    rows = {}
    for name, member in vars(FinishedRun).items():
        if isinstance(member, functools.cached_property) and not name.startswith("_"):
            kind = inspect.signature(member.func).return_annotation
            rows[f"{name}` `{kind.replace('|', chr(92) + '|')}"] = " ".join((inspect.getdoc(member.func) or "").split())
    yield _table("attribute", rows)
    for name, member in vars(FinishedRun).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            listed = ", ".join(str(p) for p in inspect.signature(member).parameters.values() if p.name != "self")
            listed = listed.replace("'", "")
            yield f"`{name}({listed})`: {' '.join((inspect.getdoc(member) or '').split())}"


def _table(what: str, rows: Mapping[str, str]) -> str:
    lines = [f"| `{name}` | {meaning} |" for name, meaning in rows.items()]
    return "\n".join([f"| {what} | what it holds |", "| --- | --- |", *lines])
