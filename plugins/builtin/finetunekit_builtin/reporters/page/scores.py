"""Learning curves, scores with denominators and intervals, and the baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from finetunekit.reports.html import Child, PageSection, h, interval_plot, join, minus, table

from ..learning_curves import UNITS, draw_curve
from ..solved import is_solved
from .figures import inline
from .verdict import interval_row
from .words import between, between_plain, count, of, percent, seconds

if TYPE_CHECKING:
    from finetunekit import FinishedRun

SPLITS = ("test", "valid", "train")


def curves_section(run: FinishedRun) -> PageSection | None:
    """Loss and accuracy by epoch; None where every stage was solved in closed form."""
    if is_solved(run):
        return None
    if not run.epochs:
        return PageSection("curves", "Learning curves", h("p", "No epoch was trained."))
    figures = h("div", [inline(draw_curve(run.epochs, column)) for column in UNITS], at={"class": "figures"})
    note = (
        f"Training is scored on {'augmented ' if run.config.get('augment') else ''}photos while the weights still move, "
        "validation on photos as they are after each epoch. "
        "Draws count a photo as often as it was drawn; photos count it once."
    )
    return PageSection("curves", "Learning curves", join([figures, h("p", note, at={"class": "muted small"})]))


def scores_section(run: FinishedRun) -> PageSection:
    """Every score of every split."""
    splits = [split for split in SPLITS if (run.metrics.get(split) or {}).get("accuracy")]
    columns = [dict(_scores(run.metrics[split])) for split in splits]
    rows = [[name, *(column.get(name, "–") for column in columns)] for name in (columns[0] if columns else ())]
    head = ("score", *(f"{split}, {count(run.metrics[split]['photos'], 'photo')}" for split in splits))
    shown = table(head, rows, caption="Scores on photos as they are, with 95 % intervals", numbers=(1, 2, 3))
    note = (
        "Accuracy: Wilson interval. Log loss and Brier score: bootstrap-t over photos. Macro scores: means over classes. Calibration "
        "error: mean distance between confidence and share right. Of log loss, Brier score and calibration error less is better."
    )
    absent = h("p", "This run's metrics hold no scores.")
    return PageSection(
        "scores", "Scores", join([shown, h("p", note, at={"class": "muted small"})] if rows else [absent])
    )


def _scores(scores: Mapping[str, Any]) -> Iterator[tuple[str, Child]]:
    accuracy = scores["accuracy"]
    yield "right", of(accuracy)
    yield "accuracy", _cell(percent(accuracy["value"]), between(accuracy["interval"]))
    for top in scores.get("top_k", ()):
        yield (
            f"true class in the top {top['k']}",
            _cell(percent(top["score"]["value"]), between(top["score"]["interval"])),
        )
    for name, title in (("macro_f1", "macro F1"), ("macro_recall", "macro recall")):
        yield title, _cell(percent(scores[name]["value"]), between(scores[name].get("interval")))
    for name, title in (("log_loss", "log loss, nats"), ("brier", "Brier score, 0 to 2")):
        yield title, _cell(f"{scores[name]['value']:.3f}", between_plain(scores[name]["interval"]))
    error = scores["calibration"]["expected_error"]
    yield "calibration error", _cell(percent(error["value"]), between(error["interval"]))


def _cell(value: str, interval: str) -> Child:
    return [value, h("br"), h("span", interval, at={"class": "muted small"})]


def baselines_section(run: FinishedRun) -> PageSection | None:
    """The baselines a sceptic would ask for; None where the run has none."""
    baselines = run.optional("baselines.json")
    if baselines is None:
        return None
    measured = [baseline for baseline in baselines["baselines"] if baseline.get("accuracy")]
    tuned, is_finetuned = run.metrics["test"]["accuracy"], baselines.get("is_finetuned", True)
    rows = [
        interval_row("this run, fine-tuned" if is_finetuned else "this run", tuned, is_main=True),
        *(interval_row(r["title"], r["accuracy"]) for r in measured),
    ]
    axis = "test photos right, with 95 % intervals"
    plot = h("figure", interval_plot(rows, name="baselines-plot", title="Baselines", axis=axis))
    head = (
        "baseline",
        "right",
        "accuracy",
        f"{'fine-tuning' if is_finetuned else 'this run'} adds, points",
        "p (Holm)",
        "seconds",
    )
    cells = [_baseline_row(baseline) for baseline in measured]
    caption = f"Each baseline against {'the fine-tuned network' if is_finetuned else 'this run'}, photo by photo"
    shown = table(head, cells, caption=caption, numbers=range(1, 6))
    without = [
        h("li", f"{baseline['title']}: {baseline['problem']}")
        for baseline in baselines["baselines"]
        if baseline.get("problem")
    ]
    note = h("p", baselines["note"], at={"class": "muted small"})
    intro = h("p", minus(" ".join(baselines["words"])))
    return PageSection("baselines", "Baselines", join([intro, plot, shown, h("ul", without) if without else "", note]))


def _baseline_row(baseline: Mapping[str, Any]) -> list[str]:
    against = baseline["against"]
    low, high = 100 * against["interval"]["low"], 100 * against["interval"]["high"]
    adds = minus(f"{100 * against['difference']:+.1f} ({low:+.1f} to {high:+.1f})")
    p = against["p_adjusted"]
    return [
        baseline["title"], of(baseline["accuracy"]), percent(baseline["accuracy"]["value"]), adds,
        "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}", seconds(baseline["seconds"]),
    ]  # fmt: skip
