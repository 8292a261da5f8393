"""What a run says at its end, in sentences for a newcomer: lines of at most 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from finetunekit.ladder.words import ladder_lines
from finetunekit.ledger import Openings, claim_sentence, opened_sentence
from finetunekit.progress import show_duration
from finetunekit.statistics import summarise_seeds, wilson_interval

WIDTH_COLUMNS = 80


def summary_lines(
    metrics: Mapping[str, Any], openings: Openings | None, seconds: float, *, ladder: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """The end of a run.

    Args:
        metrics: Content of `metrics.json`.
        openings: Of the test split, this run's included; None where the ledger could not be written.
        seconds: How long the run took.
        ladder: Content of `ladder.json`; None where the run has none.

    Returns:
        At most 8 lines of at most 80 columns, and those of the ladder; first of all that the photos are a stand-in, where they are.
    """
    is_part = metrics.get("seconds", {}).get("legs_left_out", 0) > 0
    took = f"Took {show_duration(seconds)}{' since it was taken up again' if is_part else ''}."
    if "test" not in metrics:
        return (*_without_test(metrics), took)
    test = metrics["test"]
    main = [
        *_accuracy_lines(test),
        *(ladder_lines(ladder) if ladder else ()),
        _worst_pair(test, metrics["classes"]),
        _validation(metrics["last_epoch"]),
    ]
    main += [line for note in metrics.get("notes", ()) for line in textwrap.wrap(note, WIDTH_COLUMNS)]
    if metrics["stand_in"]:
        # Claims and calibration say nothing here; the warning takes their lines.
        opened = [] if openings is None else [opened_sentence(openings)]
        return (*_fit(f"STAND-IN PHOTOS: {metrics['stand_in']}", 2), *main, *opened, took)
    opened = ["How often this test split was opened could not be recorded."]
    if openings is not None and openings.openings == 0:  # a run folder that came from elsewhere
        opened = ["The ledger of this machine holds no opening of this test split."]
    elif openings is not None:
        accuracy = test["accuracy"]
        opened = claim_sentence(openings, accuracy["successes"], accuracy["photos"]).split("\n")
    return (*main, _calibration(test["calibration"]), *opened, took)


def _without_test(metrics: Mapping[str, Any]) -> list[str]:
    """What a run says whose test split stayed shut."""
    said = [f"STAND-IN PHOTOS: {metrics['stand_in']}"] if metrics["stand_in"] else []
    accuracy = metrics["valid"]["accuracy"]
    said.append(
        f"{accuracy['successes']:,} of {accuracy['photos']:,} validation photos right: {_percent(accuracy['value'])},"
        f" 95 % interval {_between(accuracy['interval'])}."
    )
    said += [*metrics.get("notes", ()), "The test split stayed shut (evaluate.test: false): no network saw its photos."]
    return [line for part in said for line in textwrap.wrap(part, WIDTH_COLUMNS)]


def summarise_runs(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several seeds of one configuration on the same test photos.

    Two intervals, which answer two questions and of which neither contains the other. `over_seeds`: other trainings, the
    same photos (t-interval of the mean). `over_photos`: other photos, such trainings (Wilson's interval at the mean
    number of photos right, of as many photos as there are: five seeds on 160 photos are not 800 photos; the seeds'
    mean score of a photo varies no more than one seed's, so this interval is not too narrow for the mean).

    Args:
        metrics: Content of `metrics.json` of each seed.

    Returns:
        Plain values: `seeds`, `photos`, `stand_in`, `runs` (seed, correct, accuracy and interval of each), `over_seeds`
        for accuracy and log loss (None with one seed), `over_photos` for accuracy.

    Raises:
        ValueError: If there are none, a seed comes twice, or the test splits or classes differ.

    Source: `summarise_seeds`, `wilson_interval`; the two sources of variance after Dietterich 1998, Neural Computation
        10(7), 1895-1923.
    """
    _check_seeds(metrics)
    photos = int(metrics[0]["test"]["photos"])
    scores = [run["test"]["accuracy"] for run in metrics]
    mean_correct = sum(score["successes"] for score in scores) / len(scores)
    return {
        "seeds": [run["seed"] for run in metrics],
        "photos": photos,
        "stand_in": metrics[0]["stand_in"],
        "runs": [
            {
                "seed": run["seed"],
                "correct": score["successes"],
                "accuracy": score["value"],
                "interval": score["interval"],
            }
            for run, score in zip(metrics, scores, strict=True)
        ],
        "over_seeds": {
            "accuracy": _over_seeds([score["value"] for score in scores]),
            "log_loss": _over_seeds([run["test"]["log_loss"]["value"] for run in metrics]),
        },
        "over_photos": {
            "accuracy": {
                "mean": mean_correct / photos,
                "mean_correct": mean_correct,
                "photos": photos,
                "interval": asdict(wilson_interval(mean_correct, photos)),
            }
        },
    }


def seeds_lines(metrics: Sequence[Mapping[str, Any]], *, is_sharing_views: bool = False) -> tuple[str, ...]:
    """Several seeds in words: the mean, and which interval is over what.

    Args:
        metrics: Content of `metrics.json` of each seed.
        is_sharing_views: Whether all seeds used the same augmented views (`view_seed`).

    Returns:
        Lines of at most 80 columns.

    Raises:
        ValueError: As `summarise_runs`.
    """
    summary = summarise_runs(metrics)
    number, photos = len(summary["seeds"]), summary["photos"]
    counts = [run["correct"] for run in summary["runs"]]
    whole, spread = summary["over_photos"]["accuracy"], summary["over_seeds"]["accuracy"]
    text = [f"STAND-IN PHOTOS: {summary['stand_in']}"] if summary["stand_in"] else []
    text.append(
        f"{_seeds(number)} on the same {photos:,} test photos: {_percent(whole['mean'])} right on average"
        f" ({min(counts):,}{f' to {max(counts):,}' if number > 1 else ''})."
    )
    if spread is None:
        text.append("Over seeds: one seed has no spread. See luck in training with --seeds 5.")
    else:
        text.append(
            f"Over seeds (other trainings, same photos): the mean is {_between(spread['interval'])}, 95 % t-interval;"
            f" single seeds scatter around it by {100 * spread['standard_deviation']:.1f} points."
        )
    text.append(
        f"Over photos (other photos, such trainings): {_between(whole['interval'])}, 95 % interval over {photos:,}"
        " photos; more seeds do not narrow it."
    )
    if is_sharing_views:
        text.append("All seeds shared their augmented views, so the spread over seeds is too narrow.")
    return tuple(line for part in text for line in textwrap.wrap(part, WIDTH_COLUMNS))


def _accuracy_lines(test: Mapping[str, Any]) -> list[str]:
    accuracy = test["accuracy"]
    return textwrap.wrap(
        f"{accuracy['successes']:,} of {accuracy['photos']:,} test photos right: {_percent(accuracy['value'])}. On endless"
        f" photos like these it would be {_between(accuracy['interval'])} (95 % interval).",
        WIDTH_COLUMNS,
    )


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
    return start + _shorten(classes[true], room) + middle + _shorten(classes[given], room) + end


def _validation(epoch: Mapping[str, Any]) -> str:
    draws, drawn = int(epoch["val_draws"]), int(epoch["val_correct"])
    photos, right = int(epoch["val_photos"]), int(epoch["val_photos_correct"])
    of_photos, share = (
        f"Validation: {right:,} of {photos:,} photos",
        f" ({_percent(right / photos)})",
    )
    if draws == photos:
        return f"{of_photos}{share}."
    of_draws = f", {drawn:,} of {draws:,} draws ({_percent(drawn / draws)})."
    longest_first = (of_photos + share + of_draws, of_photos + of_draws, f"{of_photos}{share}.")
    return next((text for text in longest_first if len(text) <= WIDTH_COLUMNS), f"{of_photos}.")


def _calibration(calibration: Mapping[str, Any]) -> str:
    bins = [part for part in calibration["bins"] if part["photos"]]
    mean = sum(part["mean_confidence"] * part["photos"] for part in bins) / calibration["photos"]
    right = sum(part["correct"] for part in bins) / calibration["photos"]
    error = calibration["expected_error"]
    if error["interval"]["low"] <= 0.0:
        return f"On {calibration['photos']:,} photos its confidence ({_percent(mean)} on average) shows no fault."
    way = ", too sure" if mean > right else ", not sure enough"
    # Bins that err in both directions have no common way.
    way = way if 2.0 * abs(mean - right) >= error["value"] else ""
    return f"Confidence: {_percent(mean)} on average, {_percent(right)} right: not calibrated{way}."


def _check_seeds(metrics: Sequence[Mapping[str, Any]]) -> None:
    if not metrics:
        raise ValueError("no runs to summarise")
    seeds = [run["seed"] for run in metrics]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"each seed must come once. Received: {seeds}")
    splits = {(run["test"]["photos"], tuple(run["classes"]), run["stand_in"]) for run in metrics}
    if len(splits) > 1:
        raise ValueError("all seeds must be scored on the same test photos and classes")


def _over_seeds(values: Sequence[float]) -> dict[str, Any] | None:
    summary = summarise_seeds(values)
    return None if summary is None else asdict(summary)


def _fit(text: str, lines: int) -> list[str]:
    return textwrap.wrap(text, WIDTH_COLUMNS, max_lines=lines, placeholder=" …")


def _shorten(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def _seeds(number: int) -> str:
    return f"{number:,} seed{'' if number == 1 else 's'}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _between(interval: Mapping[str, Any]) -> str:
    # The t-interval knows nothing of 0 and 100 %; the text does.
    low, high = max(0.0, interval["low"]), min(1.0, interval["high"])
    return f"between {100 * low:.1f} and {100 * high:.1f} %"
