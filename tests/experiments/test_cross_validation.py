from __future__ import annotations

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import TINY, write_photos
from hypothesis import given, settings
from hypothesis import strategies as st

import finetunekit as ftk
from finetunekit.cli import main
from finetunekit.data.folds import choose_fold, fold_of_photos
from finetunekit.data.index import IndexedPhoto, PhotoIndex
from finetunekit.errors import ConfigError, DataError, RunFolderError
from finetunekit.experiments.cross_validation_summary import fold_lines
from finetunekit.runs.folder import FinishedRun
from finetunekit.runs.test_split_ledger import read_openings
from finetunekit.system.progress import Progress
from finetunekit.training.stages import Training

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
#: What is not looked at here is not made.
LEAN = ["stages[0].epochs=1", "insights={baselines: false, gradcam_photos: 0}", "data.audit.gate=off", "save.h5=false"]


def index_of(photos: list[tuple[str, str, str | None]]) -> PhotoIndex:
    """An index from (split, label, group) with contents of their own."""
    records = tuple(
        IndexedPhoto(Path(f"/p/{i}.jpg"), f"{i}.jpg", label, split, group, f"{i:064x}", 8, 8)
        for i, (split, label, group) in enumerate(photos)
    )
    classes = tuple(sorted({label for _, label, _ in photos}))
    return PhotoIndex(classes, records, Path("/p"), None, ())


# ---- dealing -------------------------------------------------------------------------------------------------------------------


@given(st.integers(3, 6), st.integers(6, 30), st.integers(6, 30), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_each_photo_is_tested_on_once_validates_once_and_never_trains_where_it_is_tested(
    folds: int, cats: int, lions: int, seed: int
) -> None:
    index = index_of([("train", "cat", None)] * cats + [("test", "lion", None)] * lions)
    fold_of = fold_of_photos(index, folds, seed=seed)
    chosen = [choose_fold(index, fold_of, fold, folds) for fold in range(1, folds + 1)]
    for role in ("test", "valid"):
        assert Counter(photo.path for one in chosen for photo in one.split(role)) == dict.fromkeys(fold_of, 1)
    for one in chosen:
        splits = {role: {photo.path for photo in one.split(role)} for role in ("train", "valid", "test")}
        assert splits["train"] | splits["valid"] | splits["test"] == set(fold_of)
        assert sum(map(len, splits.values())) == len(fold_of)
        assert [photo.path for photo in one.split("display")] == [photo.path for photo in one.split("test")]
        assert one.classes == index.classes
        assert {photo.label for photo in one.split("test")} == {"cat", "lion"}


def test_folds_depend_on_contents_and_groups_not_on_names_or_splits() -> None:
    photos = [
        (("train", "test")[i % 2], ("cat", "lion")[i % 3 > 0], None if i < 20 else f"g{i // 4}") for i in range(60)
    ]
    index = index_of(photos)
    fold_of = fold_of_photos(index, 5, seed=0)
    moved = PhotoIndex(
        index.classes,
        tuple(
            IndexedPhoto(Path(f"/q/{i}.png"), f"{i}.png", p.label, "valid", p.group, p.sha256, 8, 8)
            for i, p in enumerate(reversed(index.photos))
        ),
        Path("/q"), None, (),
    )  # fmt: skip
    again = fold_of_photos(moved, 5, seed=0)
    contents = {photo.sha256: fold_of[photo.path] for photo in index.photos}
    assert {photo.sha256: again[photo.path] for photo in moved.photos} == contents
    groups = {(photo.group, fold_of[photo.path]) for photo in index.photos if photo.group}
    assert len(groups) == len({group for group, _ in groups}) == 10
    assert fold_of_photos(index, 5, seed=1) != fold_of


def test_a_class_too_small_for_the_folds_is_named() -> None:
    index = index_of([("train", "cat", None)] * 9 + [("train", "lion", "one")] * 9 + [("test", "puma", None)] * 2)
    with pytest.raises(DataError, match=r"class 'lion' has 9 photos in 1 groups, too few for 3 folds") as caught:
        fold_of_photos(index, 3, seed=0)
    assert "class 'puma' has 2 photos in 2 groups" in caught.value.problems[1]


# ---- running -------------------------------------------------------------------------------------------------------------------


def cross(preset: Path, *settings: str) -> ftk.GroupResult:
    return ftk.run_folds(
        preset, settings=["train.folds=3", *LEAN, *settings], out=preset.parent / "runs", progress=QUIET
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


@dataclass(frozen=True)
class Crossed:
    """One cross-validation from the command line, after a run of the same preset without folds."""

    path: Path
    photos: Path
    printed: dict[str, Any]
    summary: tuple[str, ...]
    test_key: str
    openings: tuple[int, int, int]


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crossed]:
    folder = tmp_path_factory.mktemp("crossed")
    photos = write_photos(folder / "photos")
    preset = folder / "tiny.yaml"
    preset.write_text(TINY.replace("ROOT", str(photos)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
        patch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
        plain = ftk.run(preset, settings=LEAN, out=folder / "runs", progress=QUIET)
        test_key = ftk.FinishedRun(plain.path).state["test_content_key"]
        before = read_openings(test_key).openings
        lean = [part for setting in LEAN for part in ("--set", setting)]
        arguments = ["run", str(preset), "--folds", "3", *lean, "--out", str(folder / "runs"), "--quiet", "--json"]
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        printed = json.loads(result.stdout)
        after = read_openings(test_key).openings
        again = ftk.resume_folds(Path(printed["path"]), progress=QUIET)
        openings = (before, after, read_openings(test_key).openings)
        yield Crossed(again.path, photos, printed, again.summary, test_key, openings)


def test_a_cross_validation_scores_every_photo_once(crossed: Crossed) -> None:
    pooled = rows_of(crossed.path / "predictions.csv")
    assert sorted(row["path"] for row in pooled) == sorted(
        path.relative_to(crossed.photos).as_posix() for path in crossed.photos.rglob("*.png")
    )
    assert Counter(row["fold"] for row in pooled) == {"1": 8, "2": 8, "3": 8}
    right = sum(row["true"] == row["predicted"] for row in pooled)
    scores = crossed.printed["scores"]
    accuracy = scores["pooled"]["accuracy"]
    assert (accuracy["successes"], accuracy["photos"]) == (right, 24)
    assert right == sum(fold["correct"] for fold in scores["folds"])
    fold_of = {row["file_name"]: row["fold"] for row in rows_of(crossed.path / "folds.csv")}
    for fold, place in enumerate(map(Path, crossed.printed["runs"]), start=1):
        run = ftk.FinishedRun(place)
        assert run.config["train"]["fold"] == fold
        tested = {row["path"] for row in run.photos if row["split"] == "test"}
        assert tested == {name for name in fold_of if fold_of[name] == str(fold)}
        assert place.parent.samefile(crossed.path)
    assert json.loads((crossed.path / "cross_validation.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert all(len(line) <= 80 for line in crossed.summary)
    assert f"3 folds: {right} of 24 photos right" in crossed.summary[0]


def test_the_ledger_counts_the_test_split_of_the_folder_once_more_and_each_fold_once(crossed: Crossed) -> None:
    assert crossed.openings == (1, 2, 2)
    assert crossed.printed["scores"]["openings"]["openings"] == 2
    assert "opened 2 times" in " ".join(crossed.summary)
    state = crossed.photos.parent / "state/openings"
    keys = {ftk.FinishedRun(Path(place)).state["test_content_key"] for place in crossed.printed["runs"]}
    assert len(keys) == 3
    lines = {path.stem: len(path.read_text(encoding="utf-8").splitlines()) for path in state.glob("*.jsonl")}
    assert {key: lines[key] for key in keys} == dict.fromkeys(keys, 1)
    (pooled,) = lines.keys() - keys - {crossed.test_key}
    assert lines[pooled] == 1


@pytest.fixture
def stopped(tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same cross-validation, interrupted before the second fold trains."""
    with monkeypatch.context() as patch:
        real, calls = Training.run, list[int]()

        def stop_at_second(self: Training) -> Any:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(self)

        patch.setattr(Training, "run", stop_at_second)
        with pytest.raises(KeyboardInterrupt, match=r"finetunekit resume .*/tiny-folds-"):
            cross(tiny_yaml)
    return next((tiny_yaml.parent / "runs").glob("tiny-folds-*"))


@pytest.mark.slow
def test_what_was_stopped_is_gone_on_with(crossed: Crossed, stopped: Path) -> None:
    first, second = (next(stopped.glob(f"tiny-fold-{fold}-*")) for fold in (1, 2))
    made = (first / "metrics.json").stat().st_mtime_ns
    result = CliRunner().invoke(main, ["resume", str(stopped), "--quiet"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (first / "metrics.json").stat().st_mtime_ns == made
    assert len(FinishedRun(second).state["resumed"]) == 1
    assert len(list(stopped.glob("tiny-fold-*"))) == 3
    assert (stopped / "predictions.csv").read_bytes() == (crossed.path / "predictions.csv").read_bytes()
    assert result.stdout.splitlines()[-1] == str(stopped)
    assert FinishedRun(first).state["settings"] == ["train.folds=3", *LEAN, "train.fold=1"]


@pytest.mark.slow
def test_folds_that_would_be_others_now_are_refused_unless_forced(stopped: Path) -> None:
    file = next(stopped.glob("tiny-fold-1-*")) / "environment.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "cpus": 1000}))
    refused = CliRunner().invoke(main, ["resume", str(stopped), "--quiet"])
    assert refused.exit_code == 1
    assert "cannot end with the same bits any more. Changed since: cpus (1000 →" in refused.stderr
    second = next(stopped.glob("tiny-fold-2-*")) / "environment.json"
    shutil.copy(file, second)
    forced = CliRunner().invoke(main, ["resume", str(stopped), "--quiet", "--force"], catch_exceptions=False)
    assert forced.exit_code == 0, forced.output
    assert any(line.startswith("cpus (1000") for line in FinishedRun(second.parent).state["forced"])


def test_changed_photos_are_not_gone_on_with(crossed: Crossed) -> None:
    photo = crossed.photos / "train/red/red-0.png"
    photo.rename(photo.with_suffix(".txt"))
    try:
        with pytest.raises(RunFolderError, match="photos, labels or folds have changed since"):
            ftk.resume_folds(crossed.path, progress=QUIET)
    finally:
        photo.with_suffix(".txt").rename(photo)
    with pytest.raises(RunFolderError, match="holds no folds"):
        ftk.resume_folds(crossed.photos, progress=QUIET)


def test_folds_that_cannot_be_are_refused(tiny_yaml: Path) -> None:
    with pytest.raises(ConfigError, match=r"several runs\. Use finetunekit\.run_folds"):
        ftk.run(tiny_yaml, settings=["train.folds=3"], out=tiny_yaml.parent / "runs", progress=QUIET)
    with pytest.raises(ConfigError, match=r"train\.folds is not set"):
        ftk.run_folds(tiny_yaml, progress=QUIET)
    with pytest.raises(ConfigError, match="fold must be at most folds"):
        cross(tiny_yaml, "train.fold=4")
    with pytest.raises(DataError, match="class 'blue' has 8 photos in 8 groups, too few for 9 folds"):
        cross(tiny_yaml, "train.folds=9")
    assert not (tiny_yaml.parent / "runs").exists()


def test_one_fold_can_be_run_by_itself(tiny_yaml: Path) -> None:
    settings = ["train.folds=4", "train.fold=2", *LEAN]
    result = ftk.run(tiny_yaml, settings=settings, out=tiny_yaml.parent / "runs", progress=QUIET)
    assert Counter(row["split"] for row in FinishedRun(result.path).photos) == {
        "train": 12, "valid": 6, "test": 6, "display": 6,
    }  # fmt: skip


def test_the_summary_says_what_it_means() -> None:
    scores = {
        "stand_in": None, "groups": 7, "openings": None,
        "pooled": {"accuracy": {"value": 0.9, "successes": 540, "photos": 600, "interval": {"low": 0.873, "high": 0.922}}},
        "folds": [{}] * 5,
        "over_folds": {"accuracy": {"smallest": 0.85, "largest": 0.95, "standard_deviation": 0.037}},
    }  # fmt: skip
    text = " ".join(fold_lines(scores))
    assert "5 folds: 540 of 600 photos right (90.0 %), 95 % interval over photos 87.3 to 92.2 %." in text
    assert "Single folds: 85.0 % to 95.0 %, standard deviation 3.7 points." in text
    assert "with 3 of 5 parts of the photos to train on" in text
    assert "the interval over photos is too narrow" in text
    assert "could not be recorded" in text
    assert fold_lines({**scores, "stand_in": "drawn"})[0] == "STAND-IN PHOTOS: drawn"


def test_the_plan_says_how_many_runs_there_are_and_previews_one(tiny_yaml: Path) -> None:
    arguments = ["plan", str(tiny_yaml), "--set", "train.folds=4"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert "note: train.folds: 4 such runs, each tested on another fold" in result.stdout.splitlines()
    found = json.loads(CliRunner().invoke(main, [*arguments, "--layers", "--json"], catch_exceptions=False).stdout)
    assert [found["preview"]["photos"][split] for split in ("train", "valid", "test")] == [12, 6, 6]
