"""What a run says at its end, in sentences for a newcomer: lines of at most 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetunekit.evaluation.baselines.text import baseline_table
from finetunekit.runs.test_split_ledger import Openings, opened_sentence
from finetunekit.statistics.multiple import best_of_interval
from finetunekit.system.formatting import (
    counted,
    show_between,
    show_duration,
    show_expected,
    show_percent,
    show_range,
)
from finetunekit.system.terminal import WIDTH_COLUMNS, shorten, wrap


def summary_lines(
    metrics: Mapping[str, Any],
    openings: Openings | None,
    seconds: float,
    *,
    baselines: Mapping[str, Any] | None = None,
    steps: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """The end of a run: the score, what simpler methods get, what to do now; then what else is known.

    Args:
        metrics: Content of `metrics.json`.
        openings: Of the test split, this run's included; None where the ledger could not be written.
        seconds: How long the run took.
        baselines: Content of `baselines.json`; None where the run has none.
        steps: Content of `next_steps.json`; None where the run has none.

    Returns:
        At most 8 lines of at most 80 columns, those of the baselines, and those of the steps, whose commands are not broken; first of all
        that the photos are a stand-in, where they are.
    """
    is_part = metrics.get("seconds", {}).get("legs_left_out", 0) > 0
    took = f"Took {show_duration(seconds)}{' since it was resumed' if is_part else ''}."
    if "test" not in metrics:
        return (*_without_test(metrics), took)
    test = metrics["test"]
    main = [
        *_accuracy_lines(test),
        *(wrap(" ".join(baselines["words"])) if baselines else ()),
        *(step_lines(steps["steps"]) if steps else ()),
        *(baseline_table(baselines) if baselines else ()),
        _worst_pair(test, metrics["classes"]),
        _validation(metrics["valid"]["accuracy"]),
    ]
    main += [line for note in metrics.get("notes", ()) for line in wrap(note)]
    if metrics["stand_in"]:
        # Claims and calibration say nothing here; the warning takes their lines.
        opened = [] if openings is None else [opened_sentence(openings)]
        return (*wrap(shorten(f"STAND-IN PHOTOS: {metrics['stand_in']}", 140)), *main, *opened, took)
    opened = ["How often this test split was opened could not be recorded."]
    if openings is not None and openings.openings == 0:  # a run folder that came from elsewhere
        opened = ["The ledger of this machine holds no opening of this test split."]
    elif openings is not None:
        accuracy = test["accuracy"]
        opened = claim_sentence(openings, accuracy["successes"], accuracy["photos"]).split("\n")
    calibrated = wrap(_calibration(test["calibration"], metrics["calibration"]["temperature"]))
    return (*main, *calibrated, *opened, took)


def _without_test(metrics: Mapping[str, Any]) -> list[str]:
    """What a run says whose test split stayed shut."""
    said = [f"STAND-IN PHOTOS: {metrics['stand_in']}"] if metrics["stand_in"] else []
    accuracy = metrics["valid"]["accuracy"]
    said.append(
        f"{accuracy['successes']:,} of {accuracy['photos']:,} validation photos right: {show_percent(accuracy['value'])},"
        f" 95 % interval {show_between(accuracy['interval'])}."
    )
    said += metrics.get("notes", ())
    if not metrics.get("ensemble", {}).get("is_out_of_fold"):  # of folds there is none
        said.append("The test split stayed closed (evaluate.test: false): no network saw its photos.")
    return [line for part in said for line in wrap(part)]


def _accuracy_lines(test: Mapping[str, Any]) -> list[str]:
    accuracy = test["accuracy"]
    return wrap(score_sentence(accuracy))


def score_sentence(accuracy: Mapping[str, Any], photos: str = "test photo") -> str:
    """How many photos were right, and what that says of other photos."""
    return (
        f"{accuracy['successes']:,} of {counted(accuracy['photos'], photos)} right ({show_percent(accuracy['value'])};"
        f" expect {show_expected(accuracy['interval'])} on more photos like these)."
    )


def step_lines(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """What to do now, numbered, each command on a line of its own that can be copied."""
    lines = ["What to do now:"]
    for number, step in enumerate(steps, 1):
        mark = f"{number}. " if len(steps) > 1 else ""
        lines += wrap(f"{mark}{step['what']}", indent=2, hanging=len(mark))
        lines += [f"     {step['command']}"] if step["command"] else []
    return lines


def _worst_pair(test: Mapping[str, Any], classes: Sequence[str]) -> str:
    pairs = [
        (count, true, given)
        for true, row in enumerate(test["confusion"])
        for given, count in enumerate(row)
        if true != given and count
    ]
    if not pairs:
        return "No test photo was wrong."
    count, true, given = max(pairs, key=lambda pair: pair[0])
    if count == 1:
        wrong = len(pairs)
        return "One test photo was wrong." if wrong == 1 else f"The {wrong:,} mistakes were all of different kinds."
    start = f"Commonest mistake: {count:,} of {sum(test['confusion'][true]):,} '"
    middle, end = "' photos taken for '", "'."
    room = (WIDTH_COLUMNS - len(start + middle + end)) // 2
    return start + shorten(classes[true], room) + middle + shorten(classes[given], room) + end


def _validation(accuracy: Mapping[str, Any]) -> str:
    """Of the model that was saved, scored as the test photos are; what an epoch had on its way stands in the log."""
    share = show_percent(accuracy["value"])
    return f"Validation: {accuracy['successes']:,} of {accuracy['photos']:,} photos right ({share})."


def _calibration(calibration: Mapping[str, Any], temperature: float) -> str:
    bins = [part for part in calibration["bins"] if part["photos"]]
    mean = sum(part["mean_confidence"] * part["photos"] for part in bins) / calibration["photos"]
    right = sum(part["correct"] for part in bins) / calibration["photos"]
    error = calibration["expected_error"]
    is_faultless = error["interval"]["low"] <= 0.0
    way = "too sure" if mean > right else "not sure enough"
    # Bins that err in both directions have no common way.
    way = way if 2.0 * abs(mean - right) >= error["value"] else ""
    if temperature != 1.0:
        verdict = "no fault shows" if is_faultless else f"still {way or 'not calibrated'}"
        return f"At temperature {temperature:.2f}: {show_percent(mean)} sure on average, {show_percent(right)} right: {verdict}."
    if is_faultless:
        return f"On {calibration['photos']:,} photos its confidence ({show_percent(mean)} on average) shows no fault."
    way = f", {way}" if way else ""
    return f"Confidence: {show_percent(mean)} on average, {show_percent(right)} right: not calibrated{way}."


def claim_sentence(openings: Openings, correct: int, photos: int) -> str:
    """What the openings so far do to a figure, for a newcomer; lines of at most 80 columns.

    Args:
        openings: With at least the opening of the run that is being described.
        correct: Test photos that run has right.
        photos: Test photos it was scored on.

    Raises:
        ValueError: If there is no opening, or the count is impossible.
    """
    interval = best_of_interval(correct, photos, openings.openings)
    if openings.openings == 1:
        return "This test split has now been opened once: the interval is valid as it is."
    text = (
        f"{opened_sentence(openings)} As the best of them it would be partly luck: its interval is then"
        f" {show_range(interval)} %."
    )
    return "\n".join(wrap(text))
