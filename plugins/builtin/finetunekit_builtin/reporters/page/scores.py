"""Scores with denominators and intervals: of splits, of classes, and the baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from finetunekit.reports.figures import interval_plot
from finetunekit.reports.words import between, between_plain, counted, minus, of, percent, seconds

from .verdict import SHARE, interval_row

if TYPE_CHECKING:
    from finetunekit import FinishedRun

    Cell = str | tuple[str, str]

SPLITS = ("test", "valid", "train")
MOST_PLOTTED = 16


def scores(run: FinishedRun) -> dict[str, Any]:
    """Every score of every split: a text, or a value and its interval."""
    splits = [split for split in SPLITS if (run.metrics.get(split) or {}).get("accuracy")]
    columns = [dict(_scores(run.metrics[split])) for split in splits]
    return {
        "head": ["score", *(f"{split}, {counted(run.metrics[split]['photos'], 'photo')}" for split in splits)],
        "rows": [[name, *(column.get(name, "–") for column in columns)] for name in (columns[0] if columns else ())],
    }


def _scores(scores: Mapping[str, Any]) -> Iterator[tuple[str, Cell]]:
    yield "right", of(scores["accuracy"])
    yield "accuracy", _share(scores["accuracy"])
    for top in scores.get("top_k", ()):
        yield f"true class in the top {top['k']}", _share(top["score"])
    for name, title in (("macro_f1", "macro F1"), ("macro_recall", "macro recall")):
        yield title, _share(scores[name])
    for name, title in (("log_loss", "log loss, nats"), ("brier", "Brier score, 0 to 2")):
        yield title, (f"{scores[name]['value']:.3f}", between_plain(scores[name]["interval"]))
    yield "calibration error", _share(scores["calibration"]["expected_error"])


def _share(score: Mapping[str, Any]) -> tuple[str, str]:
    return percent(score["value"]), between(score.get("interval"))


def sets(run: FinishedRun) -> list[list[str]]:
    """What sets of classes would have held of the test photos, one row a coverage; none where the test split is shut."""
    return [
        [
            percent(one["coverage"]),
            f"{one['photos']:,}" + (" (too few)" if one["threshold"] is None else ""),
            f"{test['covered']:,} of {test['photos']:,}",
            between(test["interval"]),
            f"{test['mean_size']:.2f}",
            f"{test['empty']:,}",
        ]
        for one in run.metrics.get("sets", ())
        if (test := one["test"])
    ]


def classes(run: FinishedRun) -> dict[str, Any]:
    """Recall, precision and F1 of each class, and a plot of the recalls where they are few."""
    scored = (run.metrics.get("test") or {}).get("classes") or ()
    rows = [interval_row(run.classes[one["index"]], one["recall"]) for one in scored if one["recall"]]
    axis = "of a class's test photos, those found, with 95 % intervals"
    is_plotted = 0 < len(rows) <= MOST_PLOTTED
    return {
        "plot": interval_plot(rows, name="recall", title="Recall of each class", axis=axis) if is_plotted else None,
        "rows": [[run.classes[one["index"]], *_class_cells(one)] for one in scored],
    }


def _class_cells(one: Mapping[str, Any]) -> Iterator[str]:
    for score in (one["recall"], one["precision"]):
        yield of(score)
        yield between(score and score["interval"])
    yield percent(one["f1"])
    yield between(one["f1_interval"])


def compare_baselines(run: FinishedRun) -> dict[str, Any] | None:
    """The baselines that were measured, plotted and tested against the run; None where it has none."""
    baselines = run.optional("baselines.json")
    if baselines is None:
        return None
    measured = [baseline for baseline in baselines["baselines"] if baseline.get("accuracy")]
    is_finetuned = baselines.get("is_finetuned", True)
    ours = "this run, fine-tuned" if is_finetuned else "this run"
    rows = [interval_row(ours, run.metrics["test"]["accuracy"], is_main=True)]
    rows += [interval_row(baseline["title"], baseline["accuracy"]) for baseline in measured]
    return {
        "is_finetuned": is_finetuned,
        "plot": interval_plot(rows, name="baselines-plot", title="Baselines", axis=SHARE),
        "rows": [_baseline_row(baseline) for baseline in measured],
        "problems": [baseline for baseline in baselines["baselines"] if baseline.get("problem")],
    }


def _baseline_row(baseline: Mapping[str, Any]) -> list[str]:
    against = baseline["against"]
    low, high = 100 * against["interval"]["low"], 100 * against["interval"]["high"]
    adds = minus(f"{100 * against['difference']:+.1f} ({low:+.1f} to {high:+.1f})")
    p = against["p_adjusted"]
    return [
        baseline["title"], of(baseline["accuracy"]), percent(baseline["accuracy"]["value"]), adds,
        "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}", seconds(baseline["seconds"]),
    ]  # fmt: skip
