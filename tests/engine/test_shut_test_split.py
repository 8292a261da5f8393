"""`evaluate.test: false`: a run that no test photo took part in, and what cannot be asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY, write_photos

import finetunekit as ftk
from finetunekit.engine.api import rebuild_reports, summarise_run
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.runs.test_predictions import read_test_predictions
from finetunekit.system.progress import Progress

QUIET = Progress(is_quiet=True)
SHUT = ["evaluate.test=false", "stages[0].epochs=1", "data.audit.gate=off", "reports=[{name: confusion_matrix}]"]


@pytest.fixture(scope="module")
def shut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ftk.RunResult]:
    folder = tmp_path_factory.mktemp("shut")
    preset = folder / "tiny.yaml"
    preset.write_text(TINY.replace("ROOT", str(write_photos(folder / "photos"))), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        settings = [*SHUT, "insights={baselines: true, gradcam_photos: 3}"]
        yield ftk.run(preset, settings=settings, out=folder / "runs", progress=QUIET)


def test_no_test_photo_takes_part(shut: ftk.RunResult) -> None:
    run = ftk.FinishedRun(shut.path)
    assert {row["split"] for row in run.predictions} == {"train", "valid"}
    assert "test" in {row["split"] for row in run.photos}
    assert "test" not in shut.metrics
    assert shut.metrics["openings"] is None
    assert not (shut.path.parents[1] / "state/openings").exists()
    assert not any((shut.path / name).exists() for name in ("baselines.json", "gradcam.json", "reports"))
    assert run.state["status"] == "finished"


def test_it_says_so(shut: ftk.RunResult) -> None:
    text = " ".join(shut.summary)
    assert "of 6 validation photos right" in text
    assert "The test split stayed closed (evaluate.test: false): no network saw its photos." in text
    assert all(len(line) <= 80 for line in shut.summary)
    assert summarise_run(shut.path)[:-1] == shut.summary[:-1]


def test_what_needs_test_scores_is_refused_in_one_line(shut: ftk.RunResult, tiny_yaml: Path) -> None:
    with pytest.raises(RunFolderError, match=r"left its test split closed.*it has no test scores"):
        read_test_predictions(shut.path)
    with pytest.raises(RunFolderError, match=r"left its test split closed.*reports show test scores"):
        rebuild_reports(shut.path, progress=QUIET)
    with pytest.raises(ConfigError, match="leaves seeds no score to sum up"):
        ftk.run_seeds(tiny_yaml, 2, settings=SHUT, progress=QUIET)
    with pytest.raises(ConfigError, match="a cross-validation scores test photos"):
        ftk.run_folds(tiny_yaml, settings=[*SHUT, "train.folds=3"], progress=QUIET)
