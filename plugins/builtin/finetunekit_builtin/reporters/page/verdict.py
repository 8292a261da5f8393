"""What stands first: the result in words, what it adds over the baselines, what was published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from finetunekit import FinetuneKitError
from finetunekit.reports.figures import Drawing, IntervalRow, interval_plot
from finetunekit.reports.words import minus, of, percent, show_expected

if TYPE_CHECKING:
    from finetunekit import FinishedRun

SHARE = "test photos right, with 95 % intervals"


def sentences(run: FinishedRun) -> Iterator[str]:
    """The result, what it adds, and how it stands to what was published."""
    from finetunekit import published_sentence  # numpy, which no listing needs

    baselines = run.optional("baselines.json")
    accuracy = (run.metrics.get("test") or {}).get("accuracy")
    if accuracy:
        yield (
            f"{of(accuracy)} test photos right ({percent(accuracy['value'])}; expect {show_expected(accuracy['interval'])} "
            "on more photos like these)."
        )
    if unseen := run.optional("unseen_sources.json"):
        yield str(unseen["words"])
    if baselines:
        yield from (minus(sentence) for sentence in baselines["words"])
    yield from run.metrics.get("notes", ())  # such as a stage that was reverted
    if published := published_sentence(run):
        yield published


def glance(run: FinishedRun) -> Drawing | None:
    """The run beside what it has to beat; None where there is nothing beside it."""
    rows = list(_rows(run))
    title = "This run compared with its baselines"
    return interval_plot(rows, name="glance", title=title, axis=SHARE) if len(rows) > 1 else None


def _rows(run: FinishedRun) -> Iterator[IntervalRow]:
    accuracy = (run.metrics.get("test") or {}).get("accuracy")
    if accuracy:
        yield interval_row("this run", accuracy, is_main=True)
    baselines = run.optional("baselines.json")
    scored = [baseline for baseline in (baselines or {}).get("baselines", ()) if baseline.get("accuracy")]
    if scored:
        best = max(scored, key=lambda baseline: baseline["accuracy"]["successes"])
        yield interval_row(best["title"], best["accuracy"])
    if run.config.get("expected") and not run.stand_in:
        from finetunekit import verify_run

        try:
            verdict = verify_run(run.path)
        except FinetuneKitError:  # the sentence above says why
            return
        claim, interval = verdict.check.claim, verdict.published_interval
        if interval and claim.photos:
            score = {"value": claim.value, "successes": round(claim.value * claim.photos), "photos": claim.photos}
            yield interval_row("published", {**score, "interval": {"low": interval.low, "high": interval.high}})


def interval_row(label: str, score: Mapping[str, Any], *, is_main: bool = False) -> IntervalRow:
    """A share of photos as a row of an interval plot."""
    says = f"{of(score)}, {percent(score['value'])}"
    return IntervalRow(label, score["value"], score["interval"]["low"], score["interval"]["high"], says, is_main)
