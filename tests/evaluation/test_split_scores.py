"""Scores from the rows of `predictions.csv`: of the probabilities that are given out, and of the network's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run_folders import CLASSES, answers, photo_row, with_temperature

import finetunekit as ftk
from finetunekit.evaluation.prediction_files import prediction_csv
from finetunekit.evaluation.predictor import as_dict
from finetunekit.evaluation.scores import fit_calibration, score_splits, split_arrays
from finetunekit.statistics import apply_temperature


def test_an_overconfident_network_is_given_out_softer_with_the_same_answers() -> None:
    """0.99 sure and right on 150 of 200."""
    own, labels = split_arrays(answers(range(0, 200, 4), 200, confidence=0.99), CLASSES, "test")
    found = fit_calibration(own, labels, [str(i) for i in range(200)])
    assert 2 < found["temperature"] == found["fit"]["shrunken"] < found["fit"]["temperature"]
    assert "a temperature fitted on 200 validation photos" in found["words"]
    given = apply_temperature(own, found["temperature"])
    assert given.max(axis=1) == pytest.approx(0.75, abs=0.06)
    assert np.array_equal(given.argmax(axis=1), own.argmax(axis=1))


def test_copies_of_a_photo_are_one_photo() -> None:
    own, labels = split_arrays(answers((0, 4), 8, confidence=0.9), CLASSES, "test")
    once = fit_calibration(own, labels, [str(i) for i in range(8)])
    often = fit_calibration(np.tile(own, (50, 1)), np.tile(labels, 50), [str(i) for i in range(8)] * 50)
    assert often == once
    assert once["temperature"] == 1.0


@pytest.mark.parametrize("wrong", [(), (0, 1)])
def test_few_photos_leave_the_temperature_at_1_and_say_why(wrong: tuple[int, ...]) -> None:
    own, labels = split_arrays(answers(wrong, 12, confidence=0.9), CLASSES, "test")
    found = fit_calibration(own, labels, [str(i) for i in range(12)])
    assert found["temperature"] == 1.0
    assert (
        "12 validation photos do not show that another temperature than 1 would serve better (best fit"
        in found["words"]
    )


def test_both_scores_stand_in_the_metrics() -> None:
    rows = [photo_row(str(i), CLASSES[i % 4], dict(zip(CLASSES, (0.7, 0.1, 0.1, 0.1), strict=True))) for i in range(8)]
    sharper = [{**row, "p_cat": "0.97", **{f"p_{name}": "0.01" for name in CLASSES[1:]}} for row in rows]
    scores = score_splits(sharper, CLASSES, ("test",))["test"]
    assert scores["accuracy"]["successes"] == 2
    assert scores["uncalibrated"]["log_loss"]["value"] == pytest.approx(-(np.log(0.7) + 3 * np.log(0.1)) / 4)
    assert scores["log_loss"]["value"] == pytest.approx(-(np.log(0.97) + 3 * np.log(0.01)) / 4)
    assert set(scores["uncalibrated"]) == {"log_loss", "brier", "calibration"}


def test_a_loaded_run_gives_out_what_its_table_holds(copied_run: Path) -> None:
    """The temperature of the run is in its table, in every prediction and in its scores, and changes no answer."""
    run = ftk.load(with_temperature(copied_run, 1.7))
    rows = run.run.split_predictions("test")
    found = run.predict([run.run.photo_path(row["path"]) for row in rows])
    for row, one in zip(rows, found, strict=True):
        assert one.label == row["predicted"]
        assert one.temperature == 1.7
        assert one.probabilities == pytest.approx({name: float(row[f"p_{name}"]) for name in run.classes}, abs=1e-6)
        assert one.probability < float(row[f"uncalibrated_{one.label}"])
    assert json.loads(json.dumps(as_dict(found[0])))["temperature"] == 1.7
    assert (
        prediction_csv(found, run.classes).splitlines()[0]
        == "path,predicted,probability,temperature,unlike_p,is_unlike,p_blue,p_green,p_red"
    )
    assert run.evaluate(run.run.photo_path("test"))["temperature"] == 1.7
