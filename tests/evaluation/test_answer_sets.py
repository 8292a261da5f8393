"""Sets of classes from a run's validation photos, what they promise, and how they are shown."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers_plugins import invoke
from run_folders import CLASSES, answers, with_temperature

import finetunekit as ftk
from finetunekit.evaluation.answer_sets import sets_from, shown_sets

SOLVED = ({"kind": "solve", "revert_unless_better": False},)


def _rows(valid: int, wrong: Sequence[int] = (), confidence: float = 0.9) -> list[dict[str, Any]]:
    known = [{**row, "split": "valid"} for row in answers(wrong, valid, confidence=confidence)]
    return [*known, *answers((0, 1), 40, confidence=confidence)]


def test_what_is_promised_and_what_was_covered_is_said() -> None:
    sets = sets_from(_rows(40, range(0, 40, 8)), CLASSES, 0.9, stages=SOLVED)
    said = " ".join(sets.words())
    assert "at least 90 % of photos like the 40 validation photos" in said
    assert "a single rule like this one covers 79.6 to 97.2 % in 95 of 100 cases" in said
    assert "The run chose nothing on these photos" in said
    assert "that none can be ruled out" in said
    assert sets.test is not None
    assert f"{sets.test.covered} of 40 hold the true class" in said
    assert sets.test.covered == 40  # 5 of 40 wrong leaves no set without them
    assert sets.test.full == 40


def test_sets_of_a_network_that_errs_seldom_are_single_classes() -> None:
    sets = sets_from(_rows(40, (0,)), CLASSES, 0.9, stages=SOLVED)
    assert sets.test is not None
    assert (sets.test.covered, sets.test.mean_size, sets.test.empty, sets.test.full) == (38, 1.0, 0, 0)
    assert "right on 39 of these 40 photos, which is more than you asked for" in " ".join(sets.words())


def test_too_few_photos_give_full_sets_and_say_how_many_it_takes() -> None:
    sets = sets_from(_rows(8), CLASSES, 0.9, stages=SOLVED)
    assert "8 are too few to promise that, which takes 9: every set contains all classes." in " ".join(sets.words())
    assert sets.test is not None
    assert sets.test.full == 40
    by_class = sets_from(_rows(40), CLASSES, 0.95, stages=SOLVED, is_per_class=True)
    assert "(19 per class are needed), so the class is in every set: 'cat' (10), 'lion' (10)" in " ".join(
        by_class.words()
    )


def test_copies_of_a_validation_photo_do_not_make_it_many() -> None:
    rows = _rows(8)
    assert sets_from(rows + rows[:8] * 5, CLASSES, 0.9, stages=SOLVED).photos == 8


@pytest.mark.parametrize("stage", [{"early_stopping": {"patience": 3}}, {"revert_unless_better": True}])
def test_a_run_that_chose_on_validation_photos_says_so(stage: dict[str, Any]) -> None:
    said = " ".join(sets_from(_rows(40), CLASSES, 0.9, stages=(stage,)).words())
    assert "The run chose its epochs or stages on the same photos" in said


def test_the_table_of_the_report_says_where_photos_are_too_few() -> None:
    found = shown_sets(_rows(12), CLASSES, SOLVED)
    assert [(one["coverage"], one["threshold"] is None) for one in found] == [(0.8, False), (0.9, False), (0.95, True)]
    json.dumps(found, allow_nan=False)


def test_predict_shows_sets_and_what_they_rest_on(copied_run: Path, tmp_path: Path) -> None:
    """Six validation photos: enough for 80 %, too few for 90 %. The temperature of the run changes no set."""
    run = with_temperature(copied_run, 1.7)
    loaded = ftk.load(run)
    photos = [str(loaded.run.photo_path(row["path"])) for row in loaded.run.split_predictions("test")]
    found = loaded.predict(photos, coverage=0.8)
    sets = loaded.sets(0.8)
    assert sets.test is not None
    truth = [row["true"] for row in loaded.run.split_predictions("test")]
    assert sets.test.covered == sum(name in (one.class_set or ()) for name, one in zip(truth, found, strict=True))
    own = [dict(row) for row in loaded.run.predictions]
    again = sets_from(own, loaded.classes, 0.8, stages=SOLVED)
    assert again.rule == sets.rule

    table = tmp_path / "answers.csv"
    shown = invoke("predict", str(run), photos[0], "--coverage", "0.9", "--csv", str(table))
    assert shown.exit_code == 0
    assert "one of {blue, green, red}" in shown.stdout
    assert "6 are too few to promise that, which takes 9" in " ".join(shown.stdout.split())
    (row,) = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    assert [row[f"in_set_{name}"] for name in loaded.classes] == ["1", "1", "1"]
    assert "at temperature 1.7" in shown.stderr
    refused = invoke("predict", str(run), photos[0], "--per-class")
    assert refused.exit_code == 2
    assert "--per-class goes with --coverage" in refused.stderr
