"""TensorBoard's own reader and its page, on what a run that was interrupted and resumed has left."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

tensorboard = pytest.importorskip("tensorboard")

import finetunekit_tensorboard
import requests
from finetunekit_tensorboard import TensorboardOptions, TensorboardTracker
from requests.adapters import HTTPAdapter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from urllib3.util import Retry

import finetunekit as ftk
from finetunekit.engine.api import resume
from finetunekit.engine.track import track
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.progress import Progress
from finetunekit.testing import check_tracker, tiny_photos, tiny_plugin

QUIET = Progress(is_quiet=True)
PLUGINS = f"{tiny_plugin.__file__}, {finetunekit_tensorboard.__file__}"
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
track: [{{name: tensorboard}}]
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


def read(tracked: Path) -> EventAccumulator:
    (status,) = (tracked.parents[1] / "tensorboard").rglob("status.txt")
    assert status.read_text(encoding="utf-8") == "finished\n"
    reader = EventAccumulator(str(status.parent))
    reader.Reload()
    return reader


def test_the_reader_finds_every_epoch_once(tracked: Path) -> None:
    reader, finished = read(tracked), FinishedRun(tracked)
    for column in ("val_loss", "learning_rate", "correct"):
        found = reader.Scalars(f"epoch/{column}")
        assert [event.step for event in found] == [1, 2, 3]
        assert [event.value for event in found] == pytest.approx(
            [float(row[column]) for row in finished.epochs], rel=1e-6
        )


def test_the_reader_finds_scores_with_denominators_and_the_configuration(tracked: Path) -> None:
    reader, accuracy = read(tracked), FinishedRun(tracked).metrics["test"]["accuracy"]
    names = ("test/accuracy", "test/accuracy/photos", "test/accuracy/low", "test/accuracy/high")
    found = [reader.Scalars(name)[-1].value for name in names]
    interval = accuracy["interval"]
    assert found == pytest.approx([accuracy["value"], accuracy["photos"], interval["low"], interval["high"]], rel=1e-6)
    text = reader.Tensors("configuration")[-1].tensor_proto.string_val[0].decode()
    assert "| stages[0].optimizer.learning_rate | 0.05 |" in text
    assert "photos.sha256" in reader.Tensors("about")[-1].tensor_proto.string_val[0].decode()
    assert reader.PluginTagToContent("hparams")


def test_the_page_shows_the_run(tracked: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tracked.parents[1] / "tensorboard")]
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
        assert name.startswith(tracked.name)
        browse = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        browse += ["--virtual-time-budget=60000", "--dump-dom", f"http://127.0.0.1:{port}/#timeseries"]
        shown = subprocess.run(browse, capture_output=True, text=True, timeout=240, check=True).stdout
        assert name in shown
    finally:
        server.terminate()
        server.wait(timeout=60)


def test_it_keeps_the_contract(tracked: Path) -> None:
    check_tracker(TensorboardTracker, TensorboardOptions(), run=tracked)
