"""Real MLflow: a server on sqlite on loopback, read back through its REST API, its page in a real browser; the database alone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

mlflow = pytest.importorskip("mlflow")

import finetunekit_mlflow
import pandas as pd
from finetunekit_mlflow import MlflowOptions, MlflowTracker

import finetunekit as ftk
from finetunekit import FinishedRun
from finetunekit.engine.track import track
from finetunekit.system.progress import Progress
from finetunekit.testing import (
    check_tracker,
    made_once,
    shared_folder,
    shared_tiny_run,
    tiny_photos,
    tiny_plugin,
    tracked_tiny_run,
)

#: MLflow 3.17's own: with SQLAlchemy 2.1, and about the annotations of a model that has a signature.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*type hint.*:UserWarning"),
]
QUIET = Progress(is_quiet=True)
PLUGINS = f"{tiny_plugin.__file__}, {finetunekit_mlflow.__file__}"
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
stages: [{{name: tune, epochs: 1, freeze: {{name: testing_first_block}}, optimizer: {{learning_rate: 0.05}}}}]
reports: []
insights: {{baselines: false, gradcam_photos: 0}}
"""


class Server(NamedTuple):
    """A tracking server, through its REST API alone."""

    uri: str
    session: requests.Session

    def ask(self, path: str, /, **body: Any) -> Any:
        answer = self.session.post(f"{self.uri}/api/2.0/mlflow/{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def get(self, path: str, /, **query: Any) -> Any:
        answer = self.session.get(f"{self.uri}/api/2.0/mlflow/{path}", params=query, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def runs(self, experiment: str) -> list[Any]:
        found = self.get("experiments/get-by-name", experiment_name=experiment)["experiment"]
        runs: list[Any] = self.ask("runs/search", experiment_ids=[found["experiment_id"]])["runs"]
        return runs


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server on sqlite in a folder, one for all processes that test: the first starts it, the last stops it.

    Yields:
        Its address.
    """
    lock, state, own = FileLock(folder / "lock"), folder / "server.json", None
    with lock:
        known = json.loads(state.read_text()) if state.exists() else {"users": 0, "port": free_port()}
        if not known["users"]:
            own = start_server(folder, known["port"])
            known["pid"] = own.pid
        state.write_text(json.dumps({**known, "users": known["users"] + 1}))
    try:
        yield f"http://127.0.0.1:{known['port']}"
    finally:
        with lock:
            known = json.loads(state.read_text())
            state.write_text(json.dumps({**known, "users": known["users"] - 1}))
            if known["users"] == 1:
                os.killpg(known["pid"], signal.SIGKILL)
        if own:
            own.wait(timeout=600)  # until the last user has stopped it


def start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Without MLflow's job runner: eight processes more, none of which has to do with tracking."""
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(
        [*command, "--workers", "1"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = shared_folder(tmp_path_factory) / "mlflow"
    folder.mkdir(exist_ok=True)
    retry = Retry(total=None, connect=300, read=0, backoff_factor=0.5, backoff_max=1.0)
    with serving(folder) as uri, requests.Session() as session:
        session.trust_env = False
        session.mount("http://", HTTPAdapter(max_retries=retry))
        session.get(f"{uri}/health", timeout=60).raise_for_status()
        yield Server(uri, session)


@pytest.fixture(scope="session")
def tracked(tmp_path_factory: pytest.TempPathFactory, server: Server) -> FinishedRun:
    """A run that was killed after its second epoch, resumed, and is on the server with its model."""
    options = MlflowOptions(uri=server.uri, experiment="felids", model="tiny-felids")
    run = shared_tiny_run(tmp_path_factory)

    def send(folder: Path) -> None:
        own = Path(shutil.copytree(run, folder / "own" / run.name))
        (own / "reports").mkdir(exist_ok=True)
        (own / "reports" / "report.html").write_text("<p>A report</p>", encoding="utf-8")
        tracked_tiny_run(MlflowTracker, options, folder, run=own)

    return FinishedRun(made_once(tmp_path_factory, "mlflow-run", send) / "runs" / run.name)


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A preset that trains in seconds, in a folder where it is at home."""
    tiny_photos(tmp_path / "photos")
    (tmp_path / "tiny.yaml").write_text(PRESET, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FINETUNEKIT_STATE", str(tmp_path / "state"))
    return tmp_path / "tiny.yaml"


def test_the_server_has_configuration_and_every_epoch_once(tracked: FinishedRun, server: Server) -> None:
    (run,) = server.runs("felids")
    params = {param["key"]: param["value"] for param in run["data"]["params"]}
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["run_name"] == tracked.path.name
    assert params["stages.0.optimizer.learning_rate"] == "0.05"
    assert tags["version.keras"] == tracked.environment["versions"]["keras"]
    assert len(tags["photos.sha256"]) == 64
    for column in ("val_loss", "learning_rate", "correct"):
        history = server.get("metrics/get-history", run_id=run["info"]["run_id"], metric_key=column)["metrics"]
        assert [(entry["step"], entry["value"]) for entry in history] == [
            (int(row["epoch"]), float(row[column])) for row in tracked.epochs
        ]


def test_the_server_has_scores_with_denominators_and_intervals_and_the_files(
    tracked: FinishedRun, server: Server
) -> None:
    (run,) = server.runs("felids")
    scores = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    accuracy = tracked.metrics["test"]["accuracy"]
    low, high = accuracy["interval"]["low"], accuracy["interval"]["high"]
    assert scores["test/accuracy"] == accuracy["value"]
    assert scores["test/accuracy/photos"] == accuracy["photos"]
    assert (scores["test/accuracy/low"], scores["test/accuracy/high"]) == (low, high)
    assert scores["baselines/majority/accuracy/photos"] == accuracy["photos"]
    assert "verdict" in {tag["key"] for tag in run["data"]["tags"]}
    names = {file["path"] for file in server.get("artifacts/list", run_id=run["info"]["run_id"])["files"]}
    assert {"predictions.csv", "config.yaml", "metrics.json", "reports", "model"} <= names
    reports = server.get("artifacts/list", run_id=run["info"]["run_id"], path="reports")["files"]
    assert "reports/report.html" in {file["path"] for file in reports}


def test_the_registered_model_takes_photo_bytes_and_gives_probabilities_by_class(
    tracked: FinishedRun, server: Server
) -> None:
    mlflow.set_tracking_uri(server.uri)
    mlflow.set_registry_uri(server.uri)
    model = mlflow.pyfunc.load_model("models:/tiny-felids/1")
    rows = [row for row in tracked.predictions if row["split"] == "test"]
    photos = [tracked.photo_path(row["path"]).read_bytes() for row in rows]
    answer = model.predict(pd.DataFrame({"photo": photos}))
    assert list(answer.columns) == list(tracked.classes)
    expected = [[float(row[f"p_{name}"]) for name in tracked.classes] for row in rows]
    np.testing.assert_allclose(answer.to_numpy(), expected, atol=1e-6)
    assert [column.name for column in model.metadata.signature.inputs] == ["photo"]


@pytest.mark.slow
def test_the_page_shows_the_run(tracked: FinishedRun, server: Server, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    (run,) = server.runs("felids")
    page = f"{server.uri}/#/experiments/{run['info']['experiment_id']}/runs/{run['info']['run_id']}"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command += ["--virtual-time-budget=60000", "--dump-dom", page]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    assert tracked.path.name in shown


@pytest.mark.slow
def test_seeds_are_children_of_one_run(preset: Path, server: Server) -> None:
    settings = [f"track=[{{name: mlflow, uri: '{server.uri}', experiment: seeds}}]"]
    group = ftk.run_seeds(preset, 2, settings=settings, out="groups", progress=QUIET)
    track(group.path)
    runs = {run["info"]["run_name"]: run for run in server.runs("seeds")}
    parent = runs.pop(group.path.name)["info"]["run_id"]
    assert len(runs) == 2
    for run in runs.values():
        assert {"key": "mlflow.parentRunId", "value": parent} in run["data"]["tags"]


def test_a_server_that_is_not_there_costs_a_warning_and_another_gets_the_run_later(
    preset: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said, nobody = io.StringIO(), f"http://127.0.0.1:{free_port()}"
    settings = [f"track=[{{name: mlflow, uri: '{nobody}'}}]"]
    result = ftk.run(preset, settings=settings, out="alone", progress=Progress(said))
    assert len([line for line in said.getvalue().splitlines() if line.startswith("warning: tracker 'mlflow'")]) == 1
    (sent,) = track(result.path, settings=[f"track=[{{name: mlflow, uri: '{server.uri}', experiment: later}}]"])
    assert sent.sent_epochs == 1
    (run,) = server.runs("later")
    assert (run["info"]["run_name"], run["info"]["status"]) == (result.path.name, "FINISHED")


@pytest.mark.slow
def test_it_keeps_the_contract_with_a_database_of_its_own(tracked: FinishedRun) -> None:
    check_tracker(MlflowTracker, MlflowOptions(), run=tracked.path)
