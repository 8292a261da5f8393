"""Real MLflow: a server on sqlite on loopback, read back through its REST API, its page in a real browser; the database alone."""

from __future__ import annotations

import io
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
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

mlflow = pytest.importorskip("mlflow")

import finetunekit_mlflow
import pandas as pd
from finetunekit_mlflow import MlflowOptions, MlflowTracker

import finetunekit as ftk
from finetunekit.engine.api import resume
from finetunekit.engine.track import track
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.progress import Progress
from finetunekit.testing import check_tracker, tiny_photos, tiny_plugin

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
stages: [{{name: tune, epochs: 3, freeze: {{name: testing_first_block}}, optimizer: {{learning_rate: 0.05}}}}]
reports: [{{name: html}}, {{name: model_card}}]
"""
STOP = """
from finetunekit import hookimpl
@hookimpl
def after_epoch(row, run_path):
    if row["epoch"] == 2 and not (run_path / "stopped").exists():
        (run_path / "stopped").touch()
        raise KeyboardInterrupt
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("server"), str(free_port())
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += [
        "--artifacts-destination",
        str(folder / "files"),
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--workers",
        "1",
    ]
    out = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    session = requests.Session()
    session.trust_env = False
    session.mount(
        "http://", HTTPAdapter(max_retries=Retry(total=None, connect=300, read=0, backoff_factor=0.5, backoff_max=1.0))
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        session.get(f"{uri}/health", timeout=60).raise_for_status()
        yield Server(uri, session)
    finally:
        session.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A preset that trains in seconds, in a folder where it is at home."""
    folder = tmp_path_factory.mktemp("here")
    tiny_photos(folder / "photos")
    (folder / "stop.py").write_text(STOP, encoding="utf-8")
    (folder / "tiny.yaml").write_text(PRESET, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield folder / "tiny.yaml"


@pytest.fixture(scope="module")
def tracked(preset: Path, server: Server) -> Path:
    """A run that was interrupted after its second epoch, resumed, and sent."""
    settings = [
        f"track=[{{name: mlflow, uri: '{server.uri}', experiment: felids, model: tiny-felids}}]",
        f"plugins=[{PLUGINS}, ./stop.py]",
    ]
    with pytest.raises(KeyboardInterrupt):
        ftk.run(preset, settings=settings, out="runs", progress=QUIET)
    (path,) = Path("runs").iterdir()
    track(path)  # what a slow machine did not get sent in two seconds
    resume(path, progress=QUIET)
    track(path)
    return path.resolve()


def test_the_server_has_configuration_and_every_epoch_once(tracked: Path, server: Server) -> None:
    (run,) = server.runs("felids")
    finished = FinishedRun(tracked)
    params = {param["key"]: param["value"] for param in run["data"]["params"]}
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["run_name"] == tracked.name
    assert params["stages.0.optimizer.learning_rate"] == "0.05"
    assert tags["version.keras"] == finished.environment["versions"]["keras"]
    assert len(tags["photos.sha256"]) == 64
    for column in ("val_loss", "learning_rate", "correct"):
        history = server.get("metrics/get-history", run_id=run["info"]["run_id"], metric_key=column)["metrics"]
        assert [(entry["step"], entry["value"]) for entry in history] == [
            (int(row["epoch"]), float(row[column])) for row in finished.epochs
        ]


def test_the_server_has_scores_with_denominators_and_intervals_and_the_files(tracked: Path, server: Server) -> None:
    (run,) = server.runs("felids")
    finished = FinishedRun(tracked)
    scores = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
    accuracy = finished.metrics["test"]["accuracy"]
    low, high = accuracy["interval"]["low"], accuracy["interval"]["high"]
    assert scores["test/accuracy"] == accuracy["value"]
    assert scores["test/accuracy/photos"] == accuracy["photos"]
    assert (scores["test/accuracy/low"], scores["test/accuracy/high"]) == (low, high)
    assert scores["baselines/majority/accuracy/photos"] == accuracy["photos"]
    assert "verdict" in {tag["key"] for tag in run["data"]["tags"]}
    names = {file["path"] for file in server.get("artifacts/list", run_id=run["info"]["run_id"])["files"]}
    assert {"predictions.csv", "config.yaml", "metrics.json", "reports", "model"} <= names
    reports = server.get("artifacts/list", run_id=run["info"]["run_id"], path="reports")["files"]
    assert {"reports/report.html", "reports/README.md"} <= {file["path"] for file in reports}


def test_the_registered_model_takes_photo_bytes_and_gives_probabilities_by_class(tracked: Path, server: Server) -> None:
    mlflow.set_tracking_uri(server.uri)
    mlflow.set_registry_uri(server.uri)
    model = mlflow.pyfunc.load_model("models:/tiny-felids/1")
    finished = FinishedRun(tracked)
    rows = [row for row in finished.predictions if row["split"] == "test"]
    photos = [finished.photo_path(row["path"]).read_bytes() for row in rows]
    answer = model.predict(pd.DataFrame({"photo": photos}))
    assert list(answer.columns) == list(finished.classes)
    expected = [[float(row[f"p_{name}"]) for name in finished.classes] for row in rows]
    np.testing.assert_allclose(answer.to_numpy(), expected, atol=1e-6)
    assert [column.name for column in model.metadata.signature.inputs] == ["photo"]


def test_the_page_shows_the_run(tracked: Path, server: Server, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium")
    (run,) = server.runs("felids")
    page = f"{server.uri}/#/experiments/{run['info']['experiment_id']}/runs/{run['info']['run_id']}"
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command += ["--virtual-time-budget=60000", "--dump-dom", page]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    assert tracked.name in shown


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


def test_a_server_that_is_not_there_costs_a_warning(preset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said, nobody = io.StringIO(), f"http://127.0.0.1:{free_port()}"
    settings = [f"track=[{{name: mlflow, uri: '{nobody}'}}]"]
    result = ftk.run(preset, settings=settings, out="alone", progress=Progress(said))
    assert len([line for line in said.getvalue().splitlines() if line.startswith("warning: tracker 'mlflow'")]) == 1
    (sent,) = track(result.path, settings=["track=[{name: mlflow, uri: 'sqlite:///later.db'}]"])
    assert sent.sent_epochs == 3


@pytest.mark.slow
def test_it_keeps_the_contract_with_a_database_of_its_own(tracked: Path) -> None:
    check_tracker(MlflowTracker, MlflowOptions(), run=tracked)
