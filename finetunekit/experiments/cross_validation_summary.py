"""What a cross-validation says: scores of all its photos together, how far its folds lie apart, and what neither means."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from finetunekit.evaluation.scores import score_splits
from finetunekit.runs.test_split_ledger import Openings, opened_sentence
from finetunekit.system.formatting import show_percent, show_range
from finetunekit.system.terminal import wrap
from finetunekit.types import TEST


def pool_scores(rows: Sequence[Mapping[str, Any]], metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores of all photos together, and of each fold.

    Args:
        rows: Test predictions of every fold, as in `predictions.csv`.
        metrics: Content of `metrics.json` of each fold, in order.

    Returns:
        Plain values: `classes`, `stand_in`, `seed`; `pooled`: every score of all photos, each predicted by the network that was not
        trained on it, with intervals over photos; `folds`: photos, correct, accuracy and log loss of each; `over_folds`: smallest,
        largest, mean and standard deviation of their accuracies, which is no standard error.

    Raises:
        ValueError: If the folds do not share their classes, or a photo was tested on twice.

    Source: intervals as for one test split (`score_splits`); that no unbiased estimate of the variance over folds exists: Bengio and
        Grandvalet 2004, Journal of Machine Learning Research 5, 1089-1105.
    """
    classes = metrics[0]["classes"]
    if any(one["classes"] != classes for one in metrics) or len({row["path"] for row in rows}) != len(rows):
        raise ValueError("folds must share their classes and no photo")
    accuracies = [one[TEST]["accuracy"]["value"] for one in metrics]
    return {
        "classes": classes,
        "stand_in": metrics[0]["stand_in"],
        "seed": metrics[0]["seed"],
        "pooled": score_splits(rows, classes, (TEST,))[TEST],
        "folds": [
            {
                "fold": number,
                "photos": one[TEST]["photos"],
                "correct": one[TEST]["accuracy"]["successes"],
                "accuracy": one[TEST]["accuracy"]["value"],
                "log_loss": one[TEST]["log_loss"]["value"],
            }
            for number, one in enumerate(metrics, start=1)
        ],
        "over_folds": {
            "accuracy": {
                "smallest": min(accuracies),
                "largest": max(accuracies),
                "mean": statistics.fmean(accuracies),
                "standard_deviation": statistics.stdev(accuracies),
            }
        },
    }


def fold_lines(scores: Mapping[str, Any]) -> tuple[str, ...]:
    """A cross-validation in words.

    Args:
        scores: Content of `cross_validation.json`.

    Returns:
        Lines of at most 80 columns; first of all that the photos are a stand-in, where they are.
    """
    accuracy, folds, spread = scores["pooled"]["accuracy"], len(scores["folds"]), scores["over_folds"]["accuracy"]
    text = [f"STAND-IN PHOTOS: {scores['stand_in']}"] if scores["stand_in"] else []
    text.append(
        f"{folds} folds: {accuracy['successes']:,} of {accuracy['photos']:,} photos right ({show_percent(accuracy['value'])}),"
        f" 95 % interval over photos {show_range(accuracy['interval'])} %."
        " Each photo was predicted by a network that was not trained on it."
    )
    text.append(
        f"Single folds: {show_percent(spread['smallest'])} to {show_percent(spread['largest'])}, standard deviation"
        f" {100 * spread['standard_deviation']:.1f} points. Folds share training photos, so this spread is not an interval."
    )
    text.append(
        f"The score is that of the recipe with {folds - 2} of {folds} parts of the photos to train on; of the {folds} networks none"
        " is the result. To have one, run it without train.folds."
    )
    if scores["groups"]:
        text.append("Photos of one group tend to be wrong together, so the interval over photos is too narrow.")
    text.append(_opened(scores["openings"]))
    return tuple(line for part in text for line in wrap(part))


def _opened(openings: Mapping[str, Any] | None) -> str:
    if openings is None:
        return "That its test photos were scored could not be recorded."
    return f"The test split without folds is among these photos. {opened_sentence(Openings(**openings))}"
