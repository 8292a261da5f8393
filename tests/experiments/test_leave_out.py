"""Photos of a source that was not trained on, beside the usual test photos."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import TINY, write_photos

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.data.index import IndexedPhoto, PhotoIndex
from finetunekit.data.left_out import groups_of, leave_out, reason_to_keep
from finetunekit.errors import ConfigError, DataError
from finetunekit.experiments.leave_out import _choose, run_left_out
from finetunekit.experiments.leave_out_summary import leave_out_lines, leave_out_scores
from finetunekit.system.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
LEAN = ["stages[0].epochs=1", "insights={baselines: false, gradcam_photos: 0}", "data.audit.gate=off", "save.h5=false"]


def index_of(*photos: tuple[str, str, str | None]) -> PhotoIndex:
    """An index from (split, label, group) with contents of their own."""
    records = tuple(
        IndexedPhoto(Path(f"/p/{i}.jpg"), f"{i}.jpg", label, split, group, f"{i:064x}", 8, 8)
        for i, (split, label, group) in enumerate(photos)
    )
    return PhotoIndex(tuple(sorted({label for _, label, _ in photos})), records, Path("/p"), None, ())


def both(split: str, group: str | None) -> list[tuple[str, str, str | None]]:
    return [(split, "cat", group), (split, "lion", group)]


def test_the_group_is_tested_on_and_neither_it_nor_its_copies_are_learnt_from() -> None:
    index = index_of(
        *both("train", "a"), *both("train", "b"), *both("valid", "b"), *both("test", "a"), *both("test", None)
    )
    copy = IndexedPhoto(Path("/p/copy.jpg"), "copy.jpg", "cat", "train", "b", index.photos[0].sha256, 8, 8)
    found = leave_out(PhotoIndex(index.classes, (*index.photos, copy), index.root, None, ()), "a")
    assert {photo.group for photo in found.split("test")} == {"a"}
    assert len(found.split("test")) == 4
    assert Counter(photo.group for photo in found.split("train")) == {"b": 2}  # the copy is left aside
    assert len(found.split("valid")) == 2
    assert [photo.path for photo in found.split("display")] == [photo.path for photo in found.split("test")]


def test_a_group_without_which_a_class_could_not_be_learnt_stays_and_the_reason_is_said() -> None:
    index = index_of(
        *both("train", "a"), *both("valid", "a"), *both("test", "a"), *both("train", "b"), ("test", "cat", "b")
    )
    assert groups_of(index) == ("a", "b")
    assert reason_to_keep(index, "b") is None
    assert "2 classes would have no validation photos: 'cat', 'lion'" in str(reason_to_keep(index, "a"))
    assert _choose(index, ["each"])[0] == ["b"]
    assert list(_choose(index, ["each"])[1]) == ["a"]
    for asked, words in (
        (["a"], "none of these groups can be left out"),
        (["bb"], "no photo has the group 'bb'. Allowed: a, b"),
        (["b\x1b[31m"], r"no photo has the group 'b\\x1b\[31m'"),
    ):
        with pytest.raises(DataError, match=words):
            _choose(index, asked)
    with pytest.raises(DataError, match="no photo has a group"):
        _choose(index_of(*both("train", None)), ["each"])
    with pytest.raises(DataError, match="cannot be left out: without it"):
        leave_out(index, "a")


def test_the_fall_is_measured_on_the_photos_that_both_tested() -> None:
    def row(number: int, *, is_right: bool, split: str = "test") -> dict[str, str]:
        p = {"p_cat": "0.9", "p_lion": "0.1", "uncalibrated_cat": "0.9", "uncalibrated_lion": "0.1"}
        return {"split": split, "path": f"{number}.jpg", "true": "cat" if is_right else "lion", "predicted": "cat", **p}

    usual = [row(number, is_right=True) for number in range(10)]
    left = {"a": [row(number, is_right=number < 4) for number in range(8)], "b": [row(20, is_right=True)]}
    metrics = {
        "classes": ["cat", "lion"], "stand_in": None, "seed": 0,
        "test": {"accuracy": {"value": 1.0, "successes": 10, "photos": 10, "interval": {"low": 0.7, "high": 1.0, "level": 0.95}}},
    }  # fmt: skip
    scores = leave_out_scores(left, usual, metrics)
    assert scores["pooled"]["accuracy"]["successes"] == 5
    assert scores["sources_scored"]["b"]["shared"] is None
    assert (scores["shared"]["photos"], scores["shared"]["difference"]) == (8, -0.5)
    assert scores["shared"]["interval"]["high"] > 0  # four photos that changed sides, all one way: p = 0.125
    lines = leave_out_lines({**scores, "kept": {"c": "alone"}})
    assert all(len(line) <= 80 for line in lines)
    text = " ".join(lines)
    assert "On photos of a source that was not trained on: 5 of 9" in text
    assert "4 right without their source, 8 with it; -50.0 points" in text
    assert "1 source could not be left out: c." in text


def test_the_command_runs_each_and_the_report_says_how_far_the_score_falls(tmp_path: Path) -> None:
    photos, group_of = write_photos(tmp_path / "photos"), dict[str, str]()
    with (tmp_path / "splits.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file_name", "label", "split", "group"])
        for number, path in enumerate(sorted(photos.rglob("*.png"))):
            split, label, _ = path.relative_to(photos).parts
            if split != "display":
                name = path.relative_to(tmp_path).as_posix()
                group_of[name] = "wild" if number % 2 and label == "red" else "zoo" if number % 2 else "farm"
                table.writerow([name, label, split, group_of[name]])
    preset = tmp_path / "tiny.yaml"
    text = TINY.replace("ROOT", str(tmp_path / "splits.csv")).replace("source: folders", "source: table")
    preset.write_text(text, encoding="utf-8")
    gate = "data.audit={gate: error, allow: [leak]}"  # noise has no leaks worth the name; sources in several splits are meant
    lean = [part for setting in (*LEAN, gate, "reports=[{name: html}]") for part in ("--set", setting)]
    sources = ("--leave-out", "wild", "--leave-out", "zoo")
    asked = ["run", str(preset), *sources, *lean, "--out", str(tmp_path / "runs"), "--quiet", "--json"]
    result = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    usual, *left = (ftk.FinishedRun(Path(place)) for place in printed["runs"])
    assert printed["scores"]["sources"] == ["wild", "zoo"]
    for source, run in zip(("wild", "zoo"), left, strict=True):
        tested = {row["path"] for row in run.photos if row["split"] == "test"}
        assert tested == {name for name in group_of if group_of[name] == source}
        assert run.config["train"]["leave_out"] == source
        assert not (run.path / "model.npz").exists()
    assert (usual.path / "model.npz").is_file()
    page = (usual.path / "reports" / "report.html").read_text(encoding="utf-8")
    accuracy = printed["scores"]["pooled"]["accuracy"]
    assert f"not trained on: {accuracy['successes']} of {accuracy['photos']}" in page
    without = ["plan", str(preset), "--set", "train.leave_out=wild", "--layers", "--json"]
    planned = json.loads(CliRunner().invoke(main, without, catch_exceptions=False).stdout)
    assert planned["preview"]["photos"]["test"] == Counter(group_of.values())["wild"]
    again = CliRunner().invoke(main, ["resume", printed["path"], "--quiet"], catch_exceptions=False)
    assert again.exit_code == 0
    assert "Trained on photos of all sources" in again.stdout
    with pytest.raises(ConfigError, match="chooses the test photos itself"):
        run_left_out(preset, settings=["train.folds=3"], progress=Progress(is_quiet=True))
