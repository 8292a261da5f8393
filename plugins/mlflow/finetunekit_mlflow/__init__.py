"""Tracker `mlflow`: a run in MLflow's database or on its server, with the model as a pyfunc if requested."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Options, TrackedEnd, TrackedRun, hookimpl
from finetunekit.hookspecs import Register

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY, PARENT = "finetunekit.key", "mlflow.parentRunId"
#: Unless the user says otherwise: no pages of retries, no lines on stdout, no usage statistics sent to anyone.
_QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MlflowOptions(Options):
    """Options of `mlflow`."""

    uri: str | None = Field(
        None, description="Server or database; null: `$MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`."
    )
    experiment: str = Field("finetunekit", min_length=1, max_length=500, description="Name of the experiment.")
    model: str | None = Field(
        None,
        min_length=1,
        description="Log the model, and register it under this name; null: it stays in the run folder.",
    )


class MlflowTracker:
    """One run, through `MlflowClient`: nothing of MLflow's is global here, no run is active."""

    def __init__(self, options: MlflowOptions) -> None:
        self._options = options

    def start(self, run: TrackedRun) -> str:
        """Open the run, or the one that has its key: a process may have been killed before it noted the id."""
        self._client, experiment = self._connect()
        run_id = run.run_id or self._find(experiment, run.key)
        if run_id is None:
            tags = {KEY: run.key, "mlflow.source.name": "finetunekit"}
            if run.group:
                tags[PARENT] = self._parent(experiment, run)
            start_ms = int(run.started_s * 1000)
            run_id = self._client.create_run(experiment, start_ms, tags, run.name).info.run_id
        self._run_id = run_id
        self._client.update_run(run_id, status="RUNNING")
        self._describe(run)
        return run_id

    def epoch(self, step: int, values: Mapping[str, float], at_s: float) -> None:
        """Values of one epoch. MLflow drops what it has already with the same step and time."""
        self._log(values, step, at_s)

    def finish(self, end: TrackedEnd) -> None:
        """Scores, verdict, files, model."""
        self._log(end.scores, end.step, end.ended_s)
        if end.verdict:
            self._client.set_tag(self._run_id, "verdict", end.verdict[:5000])
        for name, path in end.artefacts.items():
            self._client.log_artifact(self._run_id, str(path), str(Path(name).parent).removeprefix("."))
        if self._options.model and (end.folder / "model.npz").is_file():
            self._log_model(end.folder, self._options.model)
        self._end("finished", "FINISHED", int(end.ended_s * 1000))

    def fail(self, status: str) -> None:
        """`FAILED`, or `KILLED` where it was stopped from outside."""
        self._end(status, "FAILED" if status == "failed" else "KILLED")

    def _end(self, status: str, theirs: str, ended_ms: int | None = None) -> None:
        self._client.set_tag(self._run_id, "finetunekit.status", status)
        self._client.set_terminated(self._run_id, theirs, ended_ms)

    def _connect(self) -> tuple[MlflowClient, str]:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        uri = self._options.uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
        client = MlflowClient(uri, uri)
        found = client.get_experiment_by_name(self._options.experiment)
        return client, found.experiment_id if found else client.create_experiment(self._options.experiment)

    def _find(self, experiment: str, key: str) -> str | None:
        found = self._client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
        return found[0].info.run_id if found else None

    def _parent(self, experiment: str, run: TrackedRun) -> str:
        """The run that stands for a folder of several: it holds nothing, and is finished from the start."""
        key = f"group {run.group_key}"
        parent = self._find(experiment, key)
        if parent is None:
            start_ms = int(run.started_s * 1000)
            parent = self._client.create_run(experiment, start_ms, {KEY: key}, run.group).info.run_id
            self._client.set_terminated(parent)
        return str(parent)

    def _describe(self, run: TrackedRun) -> None:
        from mlflow.entities import Param, RunTag

        params = [Param(_name(key), str(value)[:6000]) for key, value in run.params.items()]
        commit = {"mlflow.source.git.commit": run.tags["git.commit"]} if "git.commit" in run.tags else {}
        tags = [RunTag(key, value[:5000]) for key, value in {**run.tags, **commit}.items()]
        for i in range(0, len(params), 100):
            self._client.log_batch(self._run_id, params=params[i : i + 100])
        self._client.log_batch(self._run_id, tags=tags[:100])

    def _log(self, values: Mapping[str, float], step: int, at_s: float) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(_name(key), value, int(at_s * 1000), step) for key, value in values.items()]
        for i in range(0, len(metrics), 500):
            self._client.log_batch(self._run_id, metrics=metrics[i : i + 500])

    def _log_model(self, folder: Path, name: str) -> None:
        from finetunekit_mlflow.pyfunc import write_model

        with tempfile.TemporaryDirectory() as scratch:
            self._client.log_artifacts(self._run_id, str(write_model(folder, Path(scratch))), "model")
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        if not self._client.search_model_versions(f"name = '{name}' and run_id = '{self._run_id}'"):
            source = self._client.get_run(self._run_id).info.artifact_uri
            self._client.create_model_version(name, f"{source}/model", self._run_id)


def _name(key: str) -> str:
    """As MLflow allows names: `stages[0].epochs` → `stages.0.epochs`; other signs become `_`."""
    return re.sub(r"[^\w.\-/ ]", "_", re.sub(r"\[(\d+)\]", r".\1", key)).strip("/")[:250]


@hookimpl
def register_trackers(register: Register) -> None:
    """One tracker."""
    register("mlflow", MlflowTracker, MlflowOptions)
