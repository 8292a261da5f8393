"""Trackio's local store, read back through its own interface, after a run that was killed and resumed."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import pytest

os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio-")  # read when it is imported
trackio = pytest.importorskip("trackio")

from finetunekit_trackio import TrackioOptions, TrackioTracker
from trackio.sqlite_storage import SQLiteStorage

from finetunekit import FinishedRun
from finetunekit.testing import check_tracker, shared_tiny_run, tracked_tiny_run


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder, run = tmp_path_factory.mktemp("here"), shared_tiny_run(tmp_path_factory)
    return tracked_tiny_run(TrackioTracker, TrackioOptions(), folder, run=run)


def rows(tracked: FinishedRun) -> list[dict[str, Any]]:
    (run,) = [run for run in trackio.Api().runs("finetunekit") if run.name.startswith(tracked.path.name)]
    found: list[dict[str, Any]] = SQLiteStorage.get_logs("finetunekit", run.name)
    return found


def test_the_store_has_every_epoch_once(tracked: FinishedRun) -> None:
    epochs = [row for row in rows(tracked) if "epoch/val_loss" in row]
    assert [(row["step"], row["epoch/val_loss"], row["epoch/correct"]) for row in epochs] == [
        (int(row["epoch"]), float(row["val_loss"]), float(row["correct"])) for row in tracked.epochs
    ]


def test_the_store_has_scores_with_denominators_configuration_and_files(tracked: FinishedRun) -> None:
    last, accuracy = rows(tracked)[-1], tracked.metrics["test"]["accuracy"]
    names = ("test/accuracy", "test/accuracy/photos", "test/accuracy/low", "test/accuracy/high", "status")
    interval = accuracy["interval"]
    assert [last[name] for name in names] == [
        accuracy["value"],
        accuracy["photos"],
        interval["low"],
        interval["high"],
        "finished",
    ]
    (run,) = trackio.Api().runs("finetunekit")
    assert run.config is not None
    assert run.config["stages[0].optimizer.learning_rate"] == 0.05
    assert len(run.config["about.photos.sha256"]) == 64


def test_it_keeps_the_contract(tracked: FinishedRun) -> None:
    check_tracker(TrackioTracker, TrackioOptions(project="contract"), run=tracked.path)
