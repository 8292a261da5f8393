"""Repeating a run, and what a run says of how far it can be repeated."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.runs.folder import ENVIRONMENT, EPOCHS, METRICS, MODEL
from finetunekit.runs.reproducibility import compare_bits, reproducibility_level
from finetunekit.system.files import to_csv
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)


def test_levels() -> None:
    assert reproducibility_level(is_deterministic=True, is_keyed=True)[0] == "bitwise"
    assert reproducibility_level(is_deterministic=False, is_keyed=True)[0] == "same machine"
    assert reproducibility_level(is_deterministic=True, is_keyed=False)[0] == "statistical"


def test_a_replay_is_the_same_and_says_what_differs_first_where_it_is_not(tiny_yaml: Path) -> None:
    out = tiny_yaml.parent / "runs"
    first = ftk.run(str(tiny_yaml), settings=["precision=bfloat16"], out=out, progress=QUIET)
    assert ftk.FinishedRun(first.path).state["reproducibility"]["level"] == "bitwise"
    done = CliRunner().invoke(main, ["replay", first.path.name, "--out", str(out), "--quiet"])
    assert done.exit_code == 0, done.output
    assert "The same, bit for bit: weights, history and predictions." in done.output
    again = Path(done.output.splitlines()[-1])
    assert again != first.path
    with (again / EPOCHS).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[1]["loss"] = "9.5"
    (again / EPOCHS).write_text(to_csv(rows, tuple(rows[0])))
    environment = json.loads((again / ENVIRONMENT).read_text())
    environment["threads"]["intra_op"] = 7
    (again / ENVIRONMENT).write_text(json.dumps(environment))
    verdict = compare_bits(ftk.FinishedRun(first.path), ftk.FinishedRun(again))
    assert not verdict.is_same
    assert verdict.first is not None
    assert verdict.first.startswith("epoch 2, loss: ")
    assert verdict.first.endswith(" and 9.5")
    assert verdict.environment == ("threads.intra_op: 0 → 7",)


@pytest.mark.slow
def test_another_seed_differs_and_models_of_seeds_are_kept_where_asked(tiny_yaml: Path) -> None:
    out = tiny_yaml.parent / "runs"
    several = ftk.run_seeds(str(tiny_yaml), 2, settings=["stages[0].epochs=1"], out=out, progress=QUIET)
    first, second = (one.path for one in several.runs)
    assert (first / MODEL).is_file()
    assert not (second / MODEL).exists()
    assert (second / METRICS).is_file()
    verdict = compare_bits(ftk.FinishedRun(first), ftk.FinishedRun(second))
    assert not verdict.is_same
    assert verdict.largest > 0
