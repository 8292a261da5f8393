"""Verbs on a finished run: predict, evaluate, report, compare, verify, cache, and the ledger behind them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import TINY, write_photos

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.system.progress import Progress

QUIET = Progress(is_quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, a preset, a cache, a state folder and two runs of two seeds."""
    folder = tmp_path_factory.mktemp("work")
    write_photos(folder / "photos", per_class=6)
    (folder / "tiny.yaml").write_text(TINY.replace("ROOT", str(folder / "photos")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        result = invoke(folder, "run", "tiny.yaml", "--seeds", "2", "--set", "stages[0].epochs=8", "--json")
    assert result.exit_code == 0, result.output
    (folder / "seeds.json").write_text(result.stdout)
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
    monkeypatch.setenv("FINETUNEKIT_STATE", str(folder / "state"))


def invoke(folder: Path, *arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(main, list(arguments), prog_name="finetunekit", catch_exceptions=False)


def runs_of(folder: Path) -> list[Path]:
    return sorted((folder / "runs").glob("tiny-seeds-*/tiny-seed-*"))


def test_seeds_give_both_intervals_and_a_folder_each(folder: Path) -> None:
    found = json.loads((folder / "seeds.json").read_text())
    assert [Path(p).name for p in found["runs"]] == [p.name for p in runs_of(folder)]
    assert found["scores"]["seeds"] == [0, 1]
    assert found["scores"]["over_seeds"]["accuracy"] is not None
    assert found["scores"]["over_photos"]["accuracy"]["interval"]["method"] == "wilson"


def test_the_second_run_is_told_that_the_test_split_was_opened_before(folder: Path) -> None:
    first, second = (ftk.FinishedRun(path).metrics["openings"] for path in runs_of(folder))
    assert (first["openings"], first["configs"]) == (1, 1)
    assert (second["openings"], second["configs"]) == (2, 1)


def test_deleting_runs_does_not_reset_the_count(folder: Path) -> None:
    result = ftk.run("tiny.yaml", settings=["stages[0].epochs=1"], out=folder / "other", progress=QUIET)
    assert (result.metrics["openings"]["openings"], result.metrics["openings"]["configs"]) == (3, 2)
    shutil.rmtree(folder / "other")
    result = ftk.run("tiny.yaml", settings=["stages[0].epochs=1"], out=folder / "other", progress=QUIET)
    assert (result.metrics["openings"]["openings"], result.metrics["openings"]["configs"]) == (4, 2)
    assert any("opened 4 times by 2 configurations" in line for line in result.summary)


def test_evaluating_a_run_on_its_own_test_photos_is_no_further_opening(folder: Path) -> None:
    path = runs_of(folder)[0]
    before = json.loads(invoke(folder, "evaluate", str(path), "--data", "photos/test", "--json").stdout)
    again = json.loads(invoke(folder, "evaluate", str(path), "--data", "photos/test", "--json").stdout)
    assert before["openings"] == again["openings"]
    assert before["accuracy"] == ftk.FinishedRun(path).metrics["test"]["accuracy"]


def test_evaluating_on_other_photos_is_counted_and_bound_by_name(folder: Path) -> None:
    write_photos(folder / "fresh", per_class=8, seed=9)
    shutil.rmtree(folder / "fresh" / "test" / "blue")  # a class without photos shifts no index
    result = invoke(folder, "evaluate", "last", "--data", "fresh/test")
    assert "of 8 photos right" in result.stdout
    assert "scored once, by 1 configuration" in result.stdout
    assert "WARNING" not in result.stdout
    (folder / "fresh" / "test" / "grean").mkdir()
    wrong = invoke(folder, "evaluate", "last", "--data", "fresh/test")
    assert wrong.exit_code == 2
    assert "grean: not a class of this run (blue, green, red). Did you mean 'green'?" in wrong.stderr


def test_scores_are_kept_where_the_ledger_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "file").touch()
    monkeypatch.setenv("FINETUNEKIT_STATE", str(folder / "file"))
    done = invoke(folder, "evaluate", "last", "--data", "photos/test", "--json")
    assert done.exit_code == 0
    assert "warning: this scoring of the photos is not counted: " in done.stderr
    scores = json.loads(done.stdout)
    assert (scores["openings"], scores["accuracy"]["photos"]) == (None, 9)
    assert "have now been scored" not in invoke(folder, "evaluate", "last", "--data", "photos/test").stdout


def test_photos_that_the_run_was_trained_on_are_counted_and_kept_out_of_the_score(folder: Path) -> None:
    write_photos(folder / "again", per_class=8, seed=9)
    mixed = folder / "again" / "test"
    for split, name in (("train", "red-0"), ("train", "red-1"), ("valid", "red-0")):
        shutil.copy(folder / "photos" / split / "red" / f"{name}.png", mixed / "red" / f"{split}-{name}.png")
    scores = json.loads(invoke(folder, "evaluate", "last", "--data", str(mixed), "--json").stdout)
    assert scores["seen"] == {"train": 2, "valid": 1}
    assert scores["tested"] == 0
    assert (scores["photos"], scores["unseen"]["photos"]) == (15, 12)
    lines = invoke(folder, "evaluate", "last", "--data", str(mixed)).stdout.splitlines()
    assert " ".join(lines[:2]).startswith("WARNING of these 15 photos, 2 the run was trained on and 1 chose its epochs")
    assert next("12 new photos right" in line for line in lines if "right" in line)
    assert max(map(len, lines)) <= 80
    only = invoke(folder, "evaluate", "last", "--data", "photos/train").stdout
    assert "None is new" in " ".join(only.split())
    assert "new photos right" not in only
    own = invoke(folder, "evaluate", "last", "--data", "photos/test")
    assert "NOTE 9 photos of these are of the run's own test split." in own.stdout
    assert own.stderr.splitlines()[0].startswith("with tiny-")


def test_predict_prints_json_writes_csv_and_sorts(folder: Path) -> None:
    result = invoke(folder, "predict", "last", "photos/test", "--json", "--csv", "p.csv", "--sort-into", "sorted")
    predictions = json.loads(result.stdout)
    assert len(predictions) == 9
    assert set(predictions[0]["probabilities"]) == {"blue", "green", "red"}
    with (folder / "p.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["predicted"] for row in rows] == [p["label"] for p in predictions]
    copies = {p.parent.name: 0 for p in (folder / "sorted").glob("*/*")}
    assert set(copies) == {p["label"] for p in predictions}
    assert len(list((folder / "sorted").glob("*/*"))) == 9
    invoke(folder, "predict", "last", "photos/test", "--sort-into", "sorted")
    assert len(list((folder / "sorted").glob("*/*"))) == 9


def test_a_photo_that_cannot_be_read_is_named_and_the_others_are_predicted(folder: Path) -> None:
    shutil.copytree(folder / "photos" / "test", folder / "mixed")
    (folder / "mixed" / "broken.jpg").write_bytes(b"no photo")
    result = invoke(folder, "predict", "last", "mixed", "--json", "--csv", "mixed.csv")
    assert result.exit_code == 2
    assert len(json.loads(result.stdout)) == 9
    assert len((folder / "mixed.csv").read_text().splitlines()) == 10
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert "mixed/broken.jpg" in line
    with pytest.raises(ftk.errors.DataError, match=r"broken\.jpg"):
        ftk.load("last", out=folder / "runs").predict([folder / "mixed"])


def test_predict_abstains_below_the_threshold(folder: Path) -> None:
    result = invoke(folder, "predict", "last", "photos/test", "--abstain-below", "1.0", "--sort-into", "unsure-sorted")
    assert result.stdout.count("unsure") == 9
    assert [p.name for p in (folder / "unsure-sorted").iterdir()] == ["unsure"]


@pytest.mark.parametrize(
    ("arguments", "says", "exit_code"),
    [
        (("predict", "last", "nowhere"), "nowhere: no such file or folder", 2),
        (("predict", "no-run", "photos"), "no-run: no run there", 1),
        (("predict", "last", "tiny.yaml"), "tiny.yaml", 2),
        (("predict", "last", "photos", "--csv", "tiny.yaml/p.csv"), "tiny.yaml is a file", 2),
        (
            ("evaluate", "last", "--data", "photos"),
            "has test/, train/, valid/: name one of them, such as photos/test",
            2,
        ),
        (("report", "no-run"), "no run there", 1),
        (("verify", "last"), "expected", 2),
    ],
)
def test_a_wrong_argument_is_one_line(folder: Path, arguments: tuple[str, ...], says: str, exit_code: int) -> None:
    result = invoke(folder, *arguments)
    assert result.exit_code == exit_code
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert says in line


def test_compare_pairs_the_same_photos(folder: Path) -> None:
    first, second = runs_of(folder)
    found = json.loads(invoke(folder, "compare", str(first), str(second), "--margin", "40", "--json").stdout)
    (pair,) = found["pairs"]
    assert (found["margin_points"], pair["common"], pair["only_first"]) == (40.0, 9, 0)
    text = invoke(folder, "compare", str(first), str(second)).stdout
    assert "9 " in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_verify_weighs_a_claim(folder: Path) -> None:
    claim = "expected={value: 0.5, photos: 2000, source: nobody, margin_points: 60}"
    result = ftk.run(
        "tiny.yaml",
        settings=["stages[0].epochs=12", "stages[0].freeze={name: none}", claim],
        out=folder / "claims",
        progress=QUIET,
    )
    verdict = invoke(folder, "verify", str(result.path))
    assert verdict.exit_code in {0, 5}
    assert "published" in verdict.stdout
    assert "not quite the preset: stages[0].epochs=12" in " ".join(verdict.stdout.split())


def test_report_lists_what_it_wrote(folder: Path) -> None:
    result = ftk.run(
        "tiny.yaml", settings=["reports=[{name: confusion_matrix}]"], out=folder / "reported", progress=QUIET
    )
    said = invoke(folder, "report", str(result.path)).stdout.splitlines()
    assert "of 9 test photos right" in said[0]
    assert any("opened" in line and "times" in line for line in said)
    written = [line for line in said if line.startswith(str(result.path))]
    assert {Path(p).name for p in written} == {"confusion_matrix.svg", "confusion_matrix.csv"}


def test_cache_lists_and_clears(folder: Path) -> None:
    listed = invoke(folder, "cache", "list").stdout
    assert "tiny to conv1" in listed or "tiny to pool1" in listed
    entries = json.loads(invoke(folder, "cache", "list", "--json").stdout)
    assert all(entry["photos"] > 0 for entry in entries)
    assert "freed" in invoke(folder, "cache", "clear").stdout
    assert invoke(folder, "cache", "list").stdout.endswith("0 entries, 0.0 MB\n")


def test_a_finished_run_is_found_by_name_and_by_last(folder: Path) -> None:
    assert ftk.load("last").run.path.name == runs_of(folder)[0].name  # of several seeds only the first keeps its model
    assert ftk.load(runs_of(folder)[0].name).classes == ("blue", "green", "red")
