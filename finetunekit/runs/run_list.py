"""The runs of a folder: how each stands, what it weighs, and which can go."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finetunekit.errors import RunFolderError
from finetunekit.runs.checkpoint import FOLDER
from finetunekit.runs.folder import (
    CONFIG,
    EPOCHS,
    METRICS,
    MODEL,
    MODEL_FILES,
    PLAN,
    RUN_GROUPS,
    STATE,
    cut_off_in,
    entries_of,
    read_status,
    run_group_file,
)
from finetunekit.runs.run_files import read_json_file
from finetunekit.system.files import locked, read_regular
from finetunekit.system.formatting import one_line

RUNNING, UNREADABLE = "running", "unreadable"
What = Literal["runs", "models"]


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run, or the folder of several, as a listing shows it.

    Attributes:
        path: Its folder.
        name: Of its configuration.
        status: `finished`, `running`, `killed`, `interrupted`, `failed`, `stopped` between two of several runs; `unreadable` where
            the folder does not say.
        seed: Of the run; of several, the first.
        started: UTC, ISO 8601.
        epochs: Complete ones.
        planned_epochs: Of the configuration.
        test_correct: Test photos it has right, the mean of several seeds; None before it was scored.
        test_photos: Test photos.
        size_bytes: Of all its files.
        has_model: Whether its network is there.
        error: Why it stopped.
        reproducibility: `bitwise`, `same machine` or `statistical`.
        missing: Why each report that it lacks is not there.
        parts: What each of several runs is, `seeds` or `folds`; None: it is one run.
        finished_parts: How many of them are finished.
        planned_parts: How many there are to be.
    """

    path: Path
    name: str
    status: str
    seed: int | None = None
    started: str | None = None
    epochs: int = 0
    planned_epochs: int | None = None
    test_correct: float | None = None
    test_photos: int | None = None
    size_bytes: int = 0
    has_model: bool = False
    error: str | None = None
    reproducibility: str | None = None
    missing: tuple[str, ...] = ()
    parts: str | None = None
    finished_parts: int = 0
    planned_parts: int | None = None


def list_runs(out: Path) -> tuple[RunEntry, ...]:
    """Every run of a folder, and every folder of several runs, oldest first; a folder that may not be looked into is `unreadable`."""
    entries = (entry for path in entries_of(out) if (entry := _entry(path)) is not None)
    return tuple(sorted(entries, key=lambda entry: (entry.started or "", entry.path.name)))


def _entry(path: Path) -> RunEntry | None:
    """What a listing says of a folder; None: it holds no run."""
    try:
        return describe_run(path) if (path / CONFIG).is_file() or run_group_file(path) else None
    except OSError as exc:
        return RunEntry(path, path.name, UNREADABLE, error=f"cannot be looked into ({one_line(exc)})")


def describe_run(path: Path) -> RunEntry:
    """One run, or the folder of several, from its files; a file that is damaged or missing leaves its fields empty."""
    group = run_group_file(path)
    if group is not None:
        return _describe_group(path, group)
    size = _size_bytes(path)
    state = _json(path / STATE)
    try:
        status = read_status(path)
    except RunFolderError:
        status = UNREADABLE
    test = (_json(path / METRICS).get("test") or {}).get("accuracy", {})
    stages = _json(path / PLAN).get("config", {}).get("stages", []) if "ensemble" not in state else []
    planned = [stage.get("epochs", 0) for stage in stages]
    solved = sum("solve" in stage for stage in state.get("stages", ()))
    return RunEntry(
        path=path,
        name=state.get("name", path.name),
        status=status,
        seed=state.get("seed"),
        started=state.get("started"),
        epochs=max(0, _lines(path / EPOCHS) - solved),
        planned_epochs=sum(planned) if planned else None,
        test_correct=test.get("successes"),
        test_photos=test.get("photos"),
        size_bytes=size,
        has_model=(path / MODEL).is_file(),
        error=state.get("error") or _cut_off(path, status),
        reproducibility=state.get("reproducibility", {}).get("level"),
        missing=tuple(report["why"] for report in state.get("missing", ())),
    )


def _cut_off(path: Path, status: str) -> str | None:
    """What ended a process that could not say so itself, or what it is in now, where that is a plugin's code."""
    who = cut_off_in(path)
    if who is None or status not in ("killed", RUNNING):
        return None
    return (
        f"the process ended without a word, inside {who}" if status == "killed" else f"nothing; it is inside {who} now"
    )


def _describe_group(path: Path, file: Path) -> RunEntry:
    state, parts = _json(file), RUN_GROUPS[file.name]
    entries = [describe_run(place.parent) for place in sorted(path.glob(f"[!.]*/{CONFIG}"))]
    accuracy = state.get("over_photos" if parts == "seeds" else "pooled", {}).get("accuracy", {})
    try:
        status = read_status(path)
    except RunFolderError:
        status = UNREADABLE
    return RunEntry(
        path=path,
        name=f"{state.get('name', path.name)} ({parts})",
        status=status,
        seed=next((entry.seed for entry in entries), None),
        started=state.get("started", next((entry.started for entry in entries), None)),
        epochs=sum(entry.epochs for entry in entries),
        test_correct=accuracy.get("mean_correct", accuracy.get("successes")),
        test_photos=state.get("photos", accuracy.get("photos")),
        size_bytes=_size_bytes(path),
        has_model=any(entry.has_model for entry in entries),
        error=next((entry.error for entry in entries if entry.status == status and entry.error), None),
        reproducibility=next((entry.reproducibility for entry in entries), None),
        missing=tuple(f"{entry.path.name}: {why}" for entry in entries for why in entry.missing),
        parts=parts,
        finished_parts=sum(entry.status == "finished" for entry in entries),
        planned_parts=state.get("planned"),
    )


def _size_bytes(path: Path) -> int:
    return sum(f.lstat().st_size for f in path.rglob("*") if f.is_file())


def choose_prunable(
    entries: Sequence[RunEntry], *, keep: int, only_unfinished: bool, what: What
) -> tuple[RunEntry, ...]:
    """Runs that can go: none that is running, and of each configuration's name none of the newest.

    Args:
        entries: Oldest first, as `list_runs` gives them.
        keep: How many of each name stay.
        only_unfinished: Leave finished runs alone.
        what: `models`: only runs that have something besides their figures.
    """
    chosen = []
    for name in {entry.name: None for entry in entries}:
        of_name = [entry for entry in entries if entry.name == name]
        old = of_name[: max(0, len(of_name) - keep)]
        chosen += [
            entry
            for entry in old
            if entry.status != RUNNING
            and entry.size_bytes  # else it may not be looked into
            and not (only_unfinished and entry.status == "finished")
            and (what == "runs" or freed_bytes(entry, what))
        ]
    return tuple(sorted(chosen, key=lambda entry: (entry.started or "", entry.path.name)))


def freed_bytes(entry: RunEntry, what: What) -> int:
    """What pruning a run gives back."""
    if what == "runs":
        return entry.size_bytes
    return sum(f.stat().st_size for f in _heavy(entry.path))


def prune(entry: RunEntry, what: What) -> None:
    """Delete a run, or of a run what is no figure: its model and checkpoints.

    Raises:
        RunFolderError: If a process writes it, or it cannot be deleted.
    """
    try:
        with locked(entry.path):
            if what == "models":
                for file in _heavy(entry.path):
                    file.unlink(missing_ok=True)
                return
            mark = run_group_file(entry.path) or entry.path / CONFIG
            mark.unlink()  # first: half a run is then no run to any listing
        shutil.rmtree(entry.path)
    except OSError as exc:
        raise RunFolderError(f"{entry.path}: cannot be deleted ({exc.strerror or exc}).") from exc


def _heavy(path: Path) -> list[Path]:
    places = [path, *(place.parent for place in path.glob(f"[!.]*/{CONFIG}"))]
    models = [place / name for place in places for name in MODEL_FILES]
    checkpoints = [file for place in places for file in (place / FOLDER).glob("*.npz")]
    return [file for file in (*models, *checkpoints) if file.is_file()]


def _json(path: Path) -> Mapping[str, Any]:
    try:
        return read_json_file(path)
    except RunFolderError:
        return {}


def _lines(path: Path) -> int:
    try:
        return max(0, read_regular(path).count(b"\n") - 1)
    except OSError:
        return 0
