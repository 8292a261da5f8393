"""What a tracker is told of a run, read from the run folder alone: the same whenever it is sent."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from finetunekit.runs.config_diff import flatten
from finetunekit.runs.folder import (
    BASELINES,
    CONFIG,
    ENVIRONMENT,
    EPOCHS,
    METRICS,
    PHOTOS,
    PLAN,
    PREDICTIONS,
    REPORTS,
    WEIGHTS,
    FinishedRun,
)
from finetunekit.types import SPLITS, TrackedEnd, TrackedRun

_KEPT_FILES = (CONFIG, PLAN, ENVIRONMENT, WEIGHTS, PHOTOS, EPOCHS, PREDICTIONS, METRICS, BASELINES)
_NO_SCORES = ("confusion", "bins", "level", "seed", "replicates", "num_classes", "index", "seconds")
_SAME_NAME = ("value", "score", "interval", "fit")


@dataclass(frozen=True, slots=True)
class TrackedEpoch:
    """An epoch as a tracker is told of it; see `finetunekit.types.Tracker.epoch`."""

    step: int
    values: Mapping[str, float]
    at_s: float


def tracked_run(run: FinishedRun, run_id: str | None, next_step: int) -> TrackedRun:
    """A run from the files that are there once its training has begun.

    Args:
        run: Its folder.
        run_id: By which the tracker knows it; None: it does not.
        next_step: See `TrackedRun`.
    """
    state, plan = run.state, run.plan
    params = flatten({key: value for key, value in plan["config"].items() if key != "track"})
    for component in plan["components"]:
        if component["kind"] != "tracker":
            path = "data.options" if component["kind"] == "data source" else component["path"]
            params |= {f"{path}.{key}": value for key, value in flatten(component["options"]).items()}
    identity = [run.path.name, state["started"], state["folder"], str(state["seed"])]
    return TrackedRun(
        name=run.path.name,
        key=hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32],
        group=state.get("group"),
        group_key=state.get("group_key"),
        run_id=run_id,
        next_step=next_step,
        started_s=_seconds(state["started"]),
        params={key: value for key, value in params.items() if value is not None},
        tags=_tags(run),
    )


def _tags(run: FinishedRun) -> dict[str, str]:
    state, environment, weights = run.state, run.environment, run.weights
    git = state.get("git") or {}
    found = {
        "preset": state["preset"],
        "git.commit": git.get("commit"),
        "git.is_dirty": git.get("is_dirty"),
        "stand_in": state.get("stand_in"),
        "precision": state.get("precision"),
        "reproducibility": state.get("reproducibility", {}).get("level"),
        "photos.sha256": hashlib.sha256((run.path / PHOTOS).read_bytes()).hexdigest(),
        "weights.kind": weights.get("kind"),
        "weights.sha256": weights.get("arrays_sha256"),
        "weights.licence": weights.get("licence"),
        "machine.platform": environment["platform"],
        "machine.processor": environment["processor"],
        "machine.cpus": environment["cpus"],
        "machine.devices": ", ".join(environment["devices"]),
        "version.python": environment["python"],
        **{f"version.{name}": version for name, version in environment["versions"].items()},
    }
    return {key: str(value) for key, value in found.items() if value is not None}


def tracked_epochs(run: FinishedRun) -> list[TrackedEpoch]:
    """The complete lines of the epoch log; the time of each is the start of the run and the seconds of the epochs until then."""
    whole_lines = run.text(EPOCHS).rpartition("\n")[0]
    rows = list(csv.DictReader(io.StringIO(whole_lines, newline="")))
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    ends_s = itertools.accumulate(float(row["seconds"]) for row in rows)
    return [
        TrackedEpoch(
            int(row["epoch"]),
            {"stage": stages.index(row["stage"]) + 1.0}
            | {name: float(text) for name, text in row.items() if text and name not in ("stage", "epoch")},
            _seconds(run.state["started"]) + end_s,
        )
        for row, end_s in zip(rows, ends_s, strict=True)
    ]


def tracked_end(run: FinishedRun) -> TrackedEnd:
    """What a finished run found."""
    from finetunekit.runs.verify import published_sentence  # brings statistics

    baselines = run.optional(BASELINES) or {}
    scores = {
        name: value
        for split in SPLITS
        if split in run.metrics
        for name, value in _scores(run.metrics[split], split, run.classes)
    }
    scores |= dict(_scores(baselines.get("baselines", []), "baselines", run.classes))
    published = published_sentence(run)
    sentences = [*baselines.get("words", ()), *run.metrics.get("notes", ()), *([published] if published else [])]
    return TrackedEnd(
        step=int(run.metrics["last_epoch"].get("epoch", 0)),
        ended_s=_seconds(run.state["ended"]),
        scores=scores,
        verdict=" ".join(" ".join(sentences).split()),
        artefacts=dict(_artefacts(run.path)),
        folder=run.path,
    )


def _artefacts(path: Path) -> Iterator[tuple[str, Path]]:
    yield from ((name, path / name) for name in _KEPT_FILES if (path / name).is_file())
    certificates = sorted(path.glob("[!.]*/**/certificate*"))
    for file in (*sorted((path / REPORTS).glob("[!.]*")), *certificates):
        if file.is_file():
            yield file.relative_to(path).as_posix(), file


def _scores(value: Any, name: str, classes: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Every number below a value, by the path that leads to it; a score and both ends of its interval lie side by side."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _NO_SCORES:
                own = key.removesuffix("_interval")
                yield from _scores(inner, name if key in _SAME_NAME else f"{name}/{own}", classes)
    elif isinstance(value, list):
        labels = classes if name.endswith("/classes") else [item.get("name", item.get("k")) for item in value]
        for label, inner in zip(labels, value, strict=False):
            yield from _scores(inner, f"{name}/{label}", classes)
    elif isinstance(value, (int, float)) and not name.endswith("/k"):
        yield name, float(value)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
