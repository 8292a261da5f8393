"""What several seeds of one configuration say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from finetunekit.reports.words import counted
from finetunekit.statistics import summarise_seeds, wilson_interval
from finetunekit.system.formatting import show_between, show_percent
from finetunekit.system.terminal import wrap


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
            "accuracy": over_seeds([score["value"] for score in scores]),
            "log_loss": over_seeds([run["test"]["log_loss"]["value"] for run in metrics]),
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
        f"{counted(number, 'seed')} on the same {photos:,} test photos: {show_percent(whole['mean'])} right on average"
        f" ({min(counts):,}{f' to {max(counts):,}' if number > 1 else ''})."
    )
    if spread is None:
        text.append("Over seeds: one seed has no spread. See luck in training with --seeds 5.")
    else:
        text.append(
            f"Over seeds (other trainings, same photos): the mean is {show_between(spread['interval'])}, 95 % t-interval;"
            f" single seeds scatter around it by {100 * spread['standard_deviation']:.1f} points."
        )
    text.append(
        f"Over photos (other photos, such trainings): {show_between(whole['interval'])}, 95 % interval over {photos:,}"
        " photos; more seeds do not narrow it."
    )
    if is_sharing_views:
        text.append("All seeds shared their augmented views, so the spread over seeds is too narrow.")
    return tuple(line for part in text for line in wrap(part))


def _check_seeds(metrics: Sequence[Mapping[str, Any]]) -> None:
    if not metrics:
        raise ValueError("no runs to summarise")
    seeds = [run["seed"] for run in metrics]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"each seed must come once. Received: {seeds}")
    splits = {(run["test"]["photos"], tuple(run["classes"]), run["stand_in"]) for run in metrics}
    if len(splits) > 1:
        raise ValueError("all seeds must be scored on the same test photos and classes")


def over_seeds(values: Sequence[float]) -> dict[str, Any] | None:
    """`summarise_seeds` as plain values."""
    summary = summarise_seeds(values)
    return None if summary is None else asdict(summary)
