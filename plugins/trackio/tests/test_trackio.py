"""Trackio's local store, read back through its own interface, after a run that was interrupted and resumed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio-")  # read when it is imported
trackio = pytest.importorskip("trackio")

import finetunekit_trackio
from finetunekit_trackio import TrackioOptions, TrackioTracker
from trackio.sqlite_storage import SQLiteStorage

import finetunekit as ftk
from finetunekit.engine.api import resume
from finetunekit.engine.track import track
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.progress import Progress
from finetunekit.testing import check_tracker, tiny_photos, tiny_plugin

QUIET = Progress(is_quiet=True)
PLUGINS = f"{tiny_plugin.__file__}, {finetunekit_trackio.__file__}"
PRESET = f"""
name: tiny
plugins: [{PLUGINS}]
data: {{source: testing_table, root: photos}}
pixels: {{size_px: 8}}
backbone: {{name: testing_tiny}}
weights: {{mode: random}}
head: {{name: testing_linear}}
train: {{batch_size: 6}}
cache: {{mode: "off"}}
stages: [{{name: tune, epochs: 3, freeze: {{name: testing_first_block}}, optimizer: {{learning_rate: 0.05}}}}]
track: [{{name: trackio}}]
"""
STOP = """
from finetunekit import hookimpl
@hookimpl
def after_epoch(row, run_path):
    if row["epoch"] == 2 and not (run_path / "stopped").exists():
        (run_path / "stopped").touch()
        raise KeyboardInterrupt
"""


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run that was interrupted after its second epoch, taken up where a kill left the tracker behind, and finished."""
    folder = tmp_path_factory.mktemp("here")
    tiny_photos(folder / "photos")
    (folder / "stop.py").write_text(STOP, encoding="utf-8")
    (folder / "tiny.yaml").write_text(PRESET, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        with pytest.raises(KeyboardInterrupt):
            ftk.run("tiny.yaml", settings=[f"plugins=[{PLUGINS}, ./stop.py]"], out="runs", progress=QUIET)
        (path,) = Path("runs").iterdir()
        track(path)  # what a slow machine did not get sent in two seconds
        notes = json.loads((path / "trackers.json").read_text(encoding="utf-8"))
        (note,) = notes.values()
        note["epochs"] = 1  # as after a kill between the second epoch and its note: it will be sent again
        (path / "trackers.json").write_text(json.dumps(notes), encoding="utf-8")
        resume(path, progress=QUIET)
        track(path)
        yield path.resolve()


def rows(tracked: Path) -> list[dict[str, Any]]:
    (run,) = [run for run in trackio.Api().runs("finetunekit") if run.name.startswith(tracked.name)]
    found: list[dict[str, Any]] = SQLiteStorage.get_logs("finetunekit", run.name)
    return found


def test_the_store_has_every_epoch_once(tracked: Path) -> None:
    epochs = [row for row in rows(tracked) if "epoch/val_loss" in row]
    assert [(row["step"], row["epoch/val_loss"], row["epoch/correct"]) for row in epochs] == [
        (int(row["epoch"]), float(row["val_loss"]), float(row["correct"])) for row in FinishedRun(tracked).epochs
    ]


def test_the_store_has_scores_with_denominators_configuration_and_files(tracked: Path) -> None:
    last, accuracy = rows(tracked)[-1], FinishedRun(tracked).metrics["test"]["accuracy"]
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


def test_it_keeps_the_contract(tracked: Path) -> None:
    check_tracker(TrackioTracker, TrackioOptions(project="contract"), run=tracked)
