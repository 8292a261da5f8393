"""W&B offline: what its library writes, read back record by record, after a run that was killed and resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wandb")

from finetunekit_trackio import TrackioOptions, TrackioTracker

from finetunekit.testing import check_tracker, shared_tiny_run, tracked_tiny_run

OPTIONS = TrackioOptions(library="wandb", project="felids")
BLOCK, HEADER, FIRST_HEADER = 32_768, 7, 7


@pytest.fixture(autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path_factory.mktemp("wandb")))


def records(file: Path) -> Iterator[Any]:
    """Messages of a `.wandb` file: LevelDB's log format behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    content, at, message = file.read_bytes(), FIRST_HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:  # too short for a record
            at += BLOCK - at % BLOCK
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        message += content[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            yield record
            message = b""


def items(found: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in found.item}


def rows_of(file: list[Any]) -> dict[int, dict[str, Any]]:
    return {row["_step"]: row for row in (items(record.history) for record in file if record.HasField("history"))}


def has_finished(file: list[Any]) -> bool:
    return any(row.get("status") == "finished" for row in rows_of(file).values())


def test_each_process_leaves_one_run_with_its_epochs_scores_and_files(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tracked = tracked_tiny_run(TrackioTracker, OPTIONS, tmp_path, run=shared_tiny_run(tmp_path_factory))
    found = [list(records(file)) for file in tmp_path.rglob("*.wandb")]
    killed, resumed = sorted(found, key=has_finished)  # their names tell seconds apart, and no less
    (run,) = (record.run for record in resumed if record.HasField("run"))
    (before,) = (record.run for record in killed if record.HasField("run"))
    assert (run.project, run.run_id) == ("felids", before.run_id)
    assert run.display_name.startswith(tracked.path.name)
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["stages[0].optimizer.learning_rate"] == 0.05
    assert len(config["about.photos.sha256"]) == 64
    rows, last = rows_of(resumed), rows_of(killed)
    for epoch in tracked.epochs:
        row = (last | rows)[int(epoch["epoch"])]
        assert row["epoch/val_loss"] == pytest.approx(float(epoch["val_loss"]))
    accuracy = tracked.metrics["test"]["accuracy"]
    end = rows[2]
    assert (end["test/accuracy"], end["test/accuracy/photos"]) == (accuracy["value"], accuracy["photos"])
    assert (end["status"], last[2]["status"]) == ("finished", "killed")
    (artifact,) = (record.artifact for record in resumed if record.HasField("artifact"))
    assert {"predictions.csv", "metrics.json"} <= {entry.path for entry in artifact.manifest.contents}


@pytest.mark.slow
def test_it_keeps_the_contract(tmp_path_factory: pytest.TempPathFactory) -> None:
    check_tracker(TrackioTracker, OPTIONS, run=shared_tiny_run(tmp_path_factory))
