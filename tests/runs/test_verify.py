from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from run_folders import CLASSES, STAND_IN, answers, make_metrics, make_run, photo_row, spread

from finetunekit.cli import main
from finetunekit.engine.summary import summary_lines
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.experiments.seeds_summary import seeds_lines, summarise_runs
from finetunekit.runs.test_split_ledger import Openings
from finetunekit.runs.verify import verdict_lines, verify_run
from finetunekit.statistics import wilson_interval

EXPECTED = {"value": 0.91875, "correct": 147, "photos": 160, "source": "the published experiment"}


def _run(path: Path, wrong: int, **expected: Any) -> Path:
    return make_run(path, answers(range(wrong)), config={"expected": {**EXPECTED, **expected}})


@pytest.mark.parametrize(
    ("wrong", "expected", "outcome", "exit_code"),
    [
        (14, {"margin_points": 6.0}, "reproduced", 0),
        (14, {}, "too few photos", 6),
        (25, {}, "not reproduced", 5),
        (2, {}, "not reproduced", 5),
        (2, {"direction": "at_least"}, "reproduced", 0),
        (12, {"direction": "at_least"}, "reproduced", 0),
    ],
)
def test_outcome_and_exit_code(
    tmp_path: Path, wrong: int, expected: dict[str, Any], outcome: str, exit_code: int
) -> None:
    path = _run(tmp_path / "run", wrong, **expected)
    verdict = verify_run(path)
    assert (verdict.check.outcome, verdict.exit_code) == (outcome, exit_code)
    result = CliRunner().invoke(main, ["verify", str(path)])
    assert result.exit_code == exit_code
    assert result.stdout.startswith(outcome.upper())


def test_words_hold_both_counts_and_intervals(tmp_path: Path) -> None:
    lines = verdict_lines(verify_run(_run(tmp_path / "run", 14)))
    text = " ".join(" ".join(lines).split())
    assert "published 147 of 160 91.9 % (95 % interval 86.6 to 95.2 %)" in text
    assert "this run 146 of 160 91.2 % (95 % interval" in text
    assert "Only a margin above 5.89 points would pass" in text
    assert "215 test photos would settle it for a run that gets exactly 91.9 % right." in text
    assert "at most 5 points worse or better" in text
    assert max(map(len, lines)) <= 80


def test_json_holds_everything(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["verify", "--json", str(_run(tmp_path / "run", 14))])
    found = json.loads(result.stdout)
    assert result.exit_code == found["exit_code"] == 6
    assert (found["check"]["observed_correct"], found["check"]["observed_photos"]) == (146, 160)
    assert found["published_interval"]["low"] == pytest.approx(wilson_interval(147, 160).low)


def test_stand_in_is_refused(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", answers(), config={"expected": EXPECTED}, stand_in=STAND_IN)
    with pytest.raises(ConfigError, match="ran on a stand-in"):
        verify_run(path)
    result = CliRunner().invoke(main, ["verify", str(path)])
    assert (result.exit_code, result.stderr.count("\n"), result.stdout) == (2, 1, "")


def test_preset_without_claim_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="states no published result"):
        verify_run(make_run(tmp_path / "run", answers()))


def test_claim_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"0\.95 is not 147 of 160"):
        verify_run(_run(tmp_path / "run", 14, value=0.95))


def test_rounded_value_gives_way_to_its_count(tmp_path: Path) -> None:
    assert verify_run(_run(tmp_path / "run", 14, value=0.92)).check.claim.value == 147 / 160


def test_damaged_claim_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"plan.json: config\.expected\.value: "):
        verify_run(_run(tmp_path / "run", 14, value=91.9))


def test_unknown_published_photos_are_said(tmp_path: Path) -> None:
    verdict = verify_run(_run(tmp_path / "run", 14, correct=None, photos=None))
    assert verdict.published_interval is None
    assert "its own error is left out" in " ".join(verdict_lines(verdict))


def test_margin_finer_than_the_published_photos(tmp_path: Path) -> None:
    verdict = verify_run(_run(tmp_path / "run", 14, margin_points=1.0))
    assert verdict.check.photos_needed is None
    assert "No number of photos would settle a margin of 1 point:" in " ".join(verdict_lines(verdict))


def test_copies_count_once(tmp_path: Path) -> None:
    rows = answers(range(14))
    path = make_run(tmp_path / "run", [*rows, *rows[:40]], config={"expected": EXPECTED})
    verdict = verify_run(path)
    assert (verdict.check.observed_photos, verdict.copies) == (160, 40)
    assert "40 test photos are copies" in " ".join(verdict_lines(verdict))


def test_help_lists_exit_codes() -> None:
    text = CliRunner().invoke(main, ["verify", "--help"]).stdout
    assert "5  not reproduced" in text
    assert "6  too few photos to say" in text


def test_summary_says_it_in_a_sentence() -> None:
    lines = summary_lines(make_metrics(spread(13)), Openings(7, 4, "a", "b"), 370.0)
    text = " ".join(lines)
    assert text.startswith("147 of 160 test photos right (91.9 %; expect 86 to 96 % on more photos like these).")
    assert "Validation: 147 of 160 photos right (91.9 %)." in text
    assert "opened 7 times by 4 configurations" in text
    assert lines[-1] == "Took 6 min 10 s."
    assert len(lines) <= 8
    assert max(map(len, lines)) <= 80


def test_summary_names_the_commonest_mistake() -> None:
    cats = range(0, 20, 4)  # five cats, called lions
    text = " ".join(summary_lines(make_metrics([*cats, 1]), None, 1.0))
    assert "Commonest mistake: 5 of 40 'cat' photos taken for 'lion'." in text
    assert "could not be recorded" in text
    assert "No test photo was wrong." in summary_lines(make_metrics(), None, 1.0)
    assert "The 2 mistakes were all of different kinds." in summary_lines(make_metrics([0, 1]), None, 1.0)


def test_summary_says_whether_confidence_is_honest() -> None:
    assert "shows no fault" in " ".join(summary_lines(make_metrics(spread(16)), None, 1.0))
    assert "not calibrated, too sure." in " ".join(summary_lines(make_metrics(spread(60)), None, 1.0))
    assert "not calibrated, not sure enough." in " ".join(summary_lines(make_metrics(), None, 1.0))


def test_summary_of_a_stand_in_warns_first() -> None:
    metrics = make_metrics(spread(13), stand_in=f"{STAND_IN} {'And so on. ' * 30}")
    lines = summary_lines(metrics, Openings(99999, 88888, "a", "b"), 370.0)
    assert lines[0].startswith("STAND-IN PHOTOS: These photos are drawn")
    assert "partly luck" not in " ".join(lines)
    assert len(lines) <= 8
    assert max(map(len, lines)) <= 80


def test_summary_fits_whatever_the_numbers() -> None:
    metrics = make_metrics(range(0, 160, 4))
    metrics["classes"] = ["a class with quite a long name indeed, and then some"] * 4
    lines = summary_lines(metrics, Openings(12345, 1234, "a", "b"), 1e6)
    assert len(lines) <= 8
    assert max(map(len, lines)) <= 80
    # of the model that was saved, whatever the last epoch had: 147 of 160 on both splits here
    metrics = {**make_metrics(spread(13)), "last_epoch": {"val_photos_correct": 9, "val_photos": 10}}
    assert "Validation: 147 of 160 photos right (91.9 %)." in summary_lines(metrics, None, 1.0)


def test_a_run_folder_from_elsewhere_has_no_opening_here() -> None:
    said = summary_lines(make_metrics(spread(13)), Openings(0, 0, None, None), 1.0)
    assert "The ledger of this machine holds no opening of this test split." in said


def test_seeds_do_not_multiply_photos() -> None:
    metrics = [make_metrics(range(wrong), seed=seed) for seed, wrong in enumerate((13, 14, 12, 16, 13))]
    summary = summarise_runs(metrics)
    over_photos = summary["over_photos"]["accuracy"]
    assert over_photos["photos"] == 160
    assert over_photos["mean_correct"] == pytest.approx(146.4)
    assert over_photos["interval"]["low"] == pytest.approx(wilson_interval(146.4, 160).low)
    assert [run["correct"] for run in summary["runs"]] == [147, 146, 148, 144, 147]
    json.dumps(summary, allow_nan=False)


def test_seed_interval_agrees_with_scipy() -> None:
    from scipy.stats import t

    metrics = [make_metrics(range(wrong), seed=seed) for seed, wrong in enumerate((13, 14, 12, 16, 13))]
    spread_of = summarise_runs(metrics)["over_seeds"]["accuracy"]
    error = spread_of["standard_deviation"] / 5**0.5
    low, high = t.interval(0.95, 4, spread_of["mean"], error)
    assert (spread_of["interval"]["low"], spread_of["interval"]["high"]) == pytest.approx((low, high))


def test_seeds_in_words_say_which_interval_is_which() -> None:
    metrics = [make_metrics(range(wrong), seed=seed) for seed, wrong in enumerate((13, 14, 12))]
    lines = seeds_lines(metrics, is_sharing_views=True)
    text = " ".join(lines)
    assert "3 seeds on the same 160 test photos: 91.9 % right on average (146 to 148)." in text
    assert "Over seeds (other trainings, same photos): the mean is between" in text
    assert "Over photos (other photos, such trainings): between 86.6 and 95.2 %" in text
    assert "too narrow" in text
    assert max(map(len, lines)) <= 80
    assert "one seed has no spread" in " ".join(seeds_lines(metrics[:1]))


@pytest.mark.parametrize(
    ("seeds", "photos", "message"),
    [((0, 0), (160, 160), "come once"), ((0, 1), (160, 156), "same test photos")],
)
def test_seeds_that_cannot_be_put_together(seeds: tuple[int, int], photos: tuple[int, int], message: str) -> None:
    runs = [make_metrics((), n, seed=seed) for seed, n in zip(seeds, photos, strict=True)]
    with pytest.raises(ValueError, match=message):
        summarise_runs(runs)
    with pytest.raises(ValueError, match="no runs"):
        summarise_runs([])


def test_ties_go_to_the_lowest_index(tmp_path: Path) -> None:
    rows = [photo_row(f"p{i}", CLASSES[i % 2], dict.fromkeys(CLASSES, 0.25)) for i in range(10)]
    verdict = verify_run(make_run(tmp_path / "run", rows, config={"expected": EXPECTED}))
    assert verdict.check.observed_correct == 5
