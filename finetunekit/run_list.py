"""The runs of a folder: how each stands, what it weighs, and which can go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finetunekit import runs
from finetunekit.checkpoint import FOLDER
from finetunekit.errors import RunFolderError

RUNNING = "running"
What = Literal["runs", "models"]


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run, as a listing shows it.

    Attributes:
        path: Its folder.
        name: Of its configuration.
        status: `finished`, `running`, `killed`, `interrupted`, `failed`; `unreadable` where the folder does not say.
        seed: Of the run.
        started: UTC, ISO 8601.
        epochs: Complete ones.
        planned_epochs: Of the configuration.
        test_correct: Test photos it has right; None before it was scored.
        test_photos: Test photos.
        size_bytes: Of all its files.
        has_model: Whether `model.keras` is there.
        error: Why it stopped.
        reproducibility: `bitwise`, `same machine` or `statistical`.
        missing: Why each report that it lacks is not there.
    """

    path: Path
    name: str
    status: str
    seed: int | None = None
    started: str | None = None
    epochs: int = 0
    planned_epochs: int | None = None
    test_correct: int | None = None
    test_photos: int | None = None
    size_bytes: int = 0
    has_model: bool = False
    error: str | None = None
    reproducibility: str | None = None
    missing: tuple[str, ...] = ()


def list_runs(out: Path) -> tuple[RunEntry, ...]:
    """Every run of a folder, oldest first."""
    if not out.is_dir():
        return ()
    paths = (path for path in out.glob("[!.]*") if (path / runs.CONFIG).is_file())
    return tuple(sorted(map(describe_run, paths), key=lambda entry: (entry.started or "", entry.path.name)))


def describe_run(path: Path) -> RunEntry:
    """One run, from its files; a file that is damaged or missing leaves its fields empty."""
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    state = _json(path / runs.STATE)
    try:
        status = runs.read_status(path)
    except RunFolderError:
        status = "unreadable"
    test = _json(path / runs.METRICS).get("test", {}).get("accuracy", {})
    planned = [stage.get("epochs", 0) for stage in _json(path / runs.PLAN).get("config", {}).get("stages", [])]
    return RunEntry(
        path=path,
        name=state.get("name", path.name),
        status=status,
        seed=state.get("seed"),
        started=state.get("started"),
        epochs=_lines(path / runs.EPOCHS),
        planned_epochs=sum(planned) if planned else None,
        test_correct=test.get("successes"),
        test_photos=test.get("photos"),
        size_bytes=size,
        has_model=(path / runs.MODEL).is_file(),
        error=state.get("error"),
        reproducibility=state.get("reproducibility", {}).get("level"),
        missing=tuple(report["why"] for report in state.get("missing", ())),
    )


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
        with runs.locked(entry.path):
            if what == "models":
                for file in _heavy(entry.path):
                    file.unlink(missing_ok=True)
                return
            (entry.path / runs.CONFIG).unlink()  # first: half a run is then no run to any listing
        shutil.rmtree(entry.path)
    except OSError as exc:
        raise RunFolderError(f"{entry.path}: cannot be deleted ({exc.strerror or exc}).") from exc


def _heavy(path: Path) -> list[Path]:
    models = [path / name for name in (runs.MODEL, runs.MODEL_H5)]
    return [file for file in (*models, *(path / FOLDER).glob("*.npz")) if file.is_file()]


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lines(path: Path) -> int:
    try:
        return max(0, path.read_bytes().count(b"\n") - 1)
    except OSError:
        return 0
