"""TensorBoard's own reader and its page, on what a run that was killed and resumed has left."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

tensorboard = pytest.importorskip("tensorboard")

import requests
from finetunekit_tensorboard import TensorboardOptions, TensorboardTracker
from requests.adapters import HTTPAdapter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from urllib3.util import Retry

from finetunekit import FinishedRun
from finetunekit.testing import check_tracker, shared_tiny_run, tracked_tiny_run


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    folder, run = tmp_path_factory.mktemp("here"), shared_tiny_run(tmp_path_factory)
    return tracked_tiny_run(TensorboardTracker, TensorboardOptions(), folder, run=run)


def logs(tracked: FinishedRun) -> Path:
    return tracked.path.parents[1] / "tensorboard"


def read(tracked: FinishedRun) -> EventAccumulator:
    (status,) = logs(tracked).rglob("status.txt")
    assert status.read_text(encoding="utf-8") == "finished\n"
    reader = EventAccumulator(str(status.parent))
    reader.Reload()
    return reader


def test_the_reader_finds_every_epoch_once(tracked: FinishedRun) -> None:
    reader = read(tracked)
    for column in ("val_loss", "learning_rate", "correct"):
        found = reader.Scalars(f"epoch/{column}")
        assert [event.step for event in found] == [1, 2]
        assert [event.value for event in found] == pytest.approx(
            [float(row[column]) for row in tracked.epochs], rel=1e-6
        )


def test_the_reader_finds_scores_with_denominators_and_the_configuration(tracked: FinishedRun) -> None:
    reader, accuracy = read(tracked), tracked.metrics["test"]["accuracy"]
    names = ("test/accuracy", "test/accuracy/photos", "test/accuracy/low", "test/accuracy/high")
    found = [reader.Scalars(name)[-1].value for name in names]
    interval = accuracy["interval"]
    assert found == pytest.approx([accuracy["value"], accuracy["photos"], interval["low"], interval["high"]], rel=1e-6)
    text = reader.Tensors("configuration")[-1].tensor_proto.string_val[0].decode()
    assert "| stages[0].optimizer.learning_rate | 0.05 |" in text
    assert "photos.sha256" in reader.Tensors("about")[-1].tensor_proto.string_val[0].decode()
    assert reader.PluginTagToContent("hparams")


@pytest.mark.slow
def test_the_page_shows_the_run(tracked: FinishedRun, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs(tracked))]
    out = subprocess.DEVNULL
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", port, "--load_fast=false"], stdout=out, stderr=out
    )
    try:
        with requests.Session() as session:
            session.trust_env = False
            retry = Retry(total=None, connect=300, read=0, backoff_factor=0.5, backoff_max=1.0)
            session.mount("http://", HTTPAdapter(max_retries=retry))
            (name,) = session.get(f"http://127.0.0.1:{port}/data/runs", timeout=60).json()
        assert name.startswith(tracked.path.name)
        browse = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        browse += ["--virtual-time-budget=60000", "--dump-dom", f"http://127.0.0.1:{port}/#timeseries"]
        shown = subprocess.run(browse, capture_output=True, text=True, timeout=240, check=True).stdout
        assert name in shown
    finally:
        server.terminate()
        server.wait(timeout=60)


def test_it_keeps_the_contract(tracked: FinishedRun) -> None:
    check_tracker(TensorboardTracker, TensorboardOptions(), run=tracked.path)
