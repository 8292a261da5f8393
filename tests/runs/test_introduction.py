"""What is said of a run before it is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from finetunekit.evaluation.predictor import find_network
from finetunekit.runs.folder import METRICS, STATE, FinishedRun, find_run
from finetunekit.runs.introduction import introduce


def begun_since(run: Path, status: str, name: str = "tiny-29990101-000000") -> Path:
    """A copy of a run that began later and ended so."""
    later = Path(shutil.copytree(run, run.with_name(name)))
    state = json.loads((later / STATE).read_text(encoding="utf-8"))
    (later / STATE).write_text(json.dumps({**state, "status": status}), encoding="utf-8")
    return later


def test_a_run_is_named_with_its_classes_and_how_good_it_is(copied_run: Path) -> None:
    run = FinishedRun(copied_run)
    right = run.metrics["test"]["accuracy"]["successes"]
    (line,) = introduce(run, asked="last", out=copied_run.parent)
    assert line == f"with {copied_run.name} (blue, green, red): {right} of 6 test photos right"
    (copied_run / METRICS).unlink()
    assert next(introduce(FinishedRun(copied_run), asked="x", out=".")).endswith("not scored, the run is finished")


def test_last_is_finished_and_a_run_that_was_interrupted_since_is_mentioned(copied_run: Path) -> None:
    out = copied_run.parent
    later = begun_since(copied_run, "interrupted")
    assert find_network("last", out=out).path == copied_run
    assert find_run("last", out) == later  # what `resume last` takes up
    _, note = introduce(FinishedRun(copied_run), asked="last", out=out)
    assert note.startswith(f"note: {later.name}, started since then, is not finished (interrupted)")
    assert note.endswith(f"finetunekit resume {later}")
    assert len(list(introduce(FinishedRun(copied_run), asked=copied_run.name, out=out))) == 1
    begun_since(copied_run, "finished", "tiny-29990101-000001")
    assert find_network("last", out=out).path.name == "tiny-29990101-000001"


def test_where_nothing_is_finished_the_newest_model_serves(copied_run: Path) -> None:
    later = begun_since(copied_run, "interrupted")
    shutil.rmtree(copied_run)
    assert find_network("last", out=later.parent).path == later
