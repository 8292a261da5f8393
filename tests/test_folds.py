from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import finetunekit as ftk
from finetunekit import runs
from finetunekit.cli import main
from finetunekit.data.folds import choose_fold, fold_of_photos
from finetunekit.data.index import IndexedPhoto, PhotoIndex
from finetunekit.errors import ConfigError, DataError, RunFolderError
from finetunekit.folds_summary import fold_lines
from finetunekit.ledger import read_openings
from finetunekit.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
#: What is not looked at here is not made.
LEAN = ["stages[0].epochs=1", "insights={ladder: false, gradcam_photos: 0}", "data.audit.gate=off", "save.h5=false"]


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


def cross(preset: Path, *settings: str) -> ftk.FoldsResult:
    return ftk.run_folds(
        preset, settings=["train.folds=3", *LEAN, *settings], out=preset.parent / "runs", progress=QUIET
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_a_cross_validation_scores_every_photo_once(tiny_yaml: Path, photos: Path) -> None:
    found = cross(tiny_yaml)
    pooled = rows_of(found.path / "predictions.csv")
    assert sorted(row["path"] for row in pooled) == sorted(
        path.relative_to(photos).as_posix() for path in photos.rglob("*.png")
    )
    assert Counter(row["fold"] for row in pooled) == {"1": 8, "2": 8, "3": 8}
    right = sum(row["true"] == row["predicted"] for row in pooled)
    accuracy = found.scores["pooled"]["accuracy"]
    assert (accuracy["successes"], accuracy["photos"]) == (right, 24)
    assert right == sum(fold["correct"] for fold in found.scores["folds"])
    fold_of = {row["file_name"]: row["fold"] for row in rows_of(found.path / "folds.csv")}
    for fold, result in enumerate(found.runs, start=1):
        run = ftk.FinishedRun(result.path)
        assert run.config["train"]["fold"] == fold
        assert {row["path"] for row in run.photos if row["split"] == "test"} == {
            n for n in fold_of if fold_of[n] == str(fold)
        }
        assert result.path.parent == found.path
    assert json.loads((found.path / "cross_validation.json").read_text(encoding="utf-8"))["status"] == "finished"
    assert all(len(line) <= 80 for line in found.summary)
    assert f"3 folds: {right} of 24 photos right" in found.summary[0]


def test_the_ledger_counts_each_fold_all_photos_and_the_test_split_of_the_folder(tiny_yaml: Path) -> None:
    plain = ftk.run(tiny_yaml, settings=LEAN, out=tiny_yaml.parent / "runs", progress=QUIET)
    test_key = ftk.FinishedRun(plain.path).state["test_content_key"]
    assert read_openings(test_key).openings == 1
    found = cross(tiny_yaml)
    assert (read_openings(test_key).openings, found.scores["openings"]["openings"]) == (2, 2)
    for result in found.runs:
        assert read_openings(ftk.FinishedRun(result.path).state["test_content_key"]).openings == 1
    ftk.resume_folds(found.path, progress=QUIET)
    assert read_openings(test_key).openings == 2
    assert "opened 2 times" in " ".join(found.summary)


def test_what_was_stopped_is_gone_on_with(tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cross(tiny_yaml)
    from finetunekit import folds

    real, asked = folds.run, []

    def stop_at_second(*args: object, **kwargs: object) -> object:
        asked.append(kwargs["settings"])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(folds, "run", stop_at_second)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        cross(tiny_yaml)
    stopped = max((tiny_yaml.parent / "runs").glob("tiny-folds-*"), key=lambda path: path.stat().st_mtime_ns)
    first = next(stopped.glob("tiny-fold-1-*"))
    made = (first / "metrics.json").stat().st_mtime_ns
    result = CliRunner().invoke(main, ["resume", str(stopped), "--quiet"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (first / "metrics.json").stat().st_mtime_ns == made
    assert [settings[0] for settings in asked] == ["train.fold=1", "train.fold=2", "train.fold=2", "train.fold=3"]
    assert (stopped / "predictions.csv").read_bytes() == (whole.path / "predictions.csv").read_bytes()
    assert result.stdout.splitlines()[-1] == str(stopped)


def test_changed_photos_are_not_gone_on_with(tiny_yaml: Path, photos: Path) -> None:
    found = cross(tiny_yaml)
    (photos / "train/red/red-0.png").unlink()
    with pytest.raises(RunFolderError, match="photos, labels or folds have changed since"):
        ftk.resume_folds(found.path, progress=QUIET)
    with pytest.raises(RunFolderError, match="holds no cross-validation"):
        ftk.resume_folds(photos, progress=QUIET)


def test_the_command_line_cross_validates(tiny_yaml: Path) -> None:
    out = str(tiny_yaml.parent / "runs")
    arguments = [
        "run",
        str(tiny_yaml),
        "--folds",
        "3",
        "--set",
        "stages[0].epochs=1",
        "--out",
        out,
        "--quiet",
        "--json",
    ]
    found = json.loads(CliRunner().invoke(main, arguments, catch_exceptions=False).stdout)
    assert len(found["runs"]) == 3
    assert found["scores"]["pooled"]["photos"] == 24


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
    assert Counter(row["split"] for row in runs.FinishedRun(result.path).photos) == {
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
    assert "the interval over photos is then too narrow" in text
    assert "could not be recorded" in text
    assert fold_lines({**scores, "stand_in": "drawn"})[0] == "STAND-IN PHOTOS: drawn"
