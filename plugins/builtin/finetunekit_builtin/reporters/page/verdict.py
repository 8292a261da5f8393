"""What stands first: the result in words, what it adds over the baselines, what was published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from finetunekit import ConfigError, FinetuneKitError
from finetunekit.reports.html import Html, IntervalRow, h, interval_plot, join, minus

from .words import between, of, percent

if TYPE_CHECKING:
    from finetunekit import FinishedRun


def lead(run: FinishedRun) -> Html:
    """The first paragraphs and the plot below them."""
    paragraphs = [h("p", text, at={"class": "lead" if i else "lead first"}) for i, text in enumerate(_sentences(run))]
    return join([*paragraphs, _facts_line(run), *_at_a_glance(run)])


def _sentences(run: FinishedRun) -> Iterator[str]:
    baselines = run.optional("baselines.json")
    accuracy = (run.metrics.get("test") or {}).get("accuracy")
    if baselines:
        yield minus(baselines["words"][0])
    if accuracy:
        yield (
            f"{of(accuracy)} test photos right: {percent(accuracy['value'])}. On endless photos like these it would be "
            f"between {between(accuracy['interval']).replace(' to ', ' and ')} (95 % interval)."
        )
    if baselines and len(baselines["words"]) > 1:
        yield minus(" ".join(baselines["words"][1:]))
    yield from run.metrics.get("notes", ())  # such as a stage that was reverted
    published = _published(run)
    if published:
        yield published


def _published(run: FinishedRun) -> str | None:
    """How the run stands to the published result of its preset, where it states one."""
    expected = run.config.get("expected")
    if not expected:
        return None
    if run.stand_in:
        return "The published result of this preset is about its own photos; a run on a stand-in says nothing about it."
    from finetunekit import outcome_sentence, verify_run  # numpy, which no listing needs

    try:
        check = verify_run(run.path).check
    except ConfigError as exc:
        return f"The published result could not be tested: {exc}"
    value = f"{percent(check.claim.value)}" + (f" of {check.claim.photos:,} photos" if check.claim.photos else "")
    sentence = outcome_sentence(check)
    return f"Published: {value}. {sentence[0]}{sentence[1:]}"


def _facts_line(run: FinishedRun) -> Html:
    config = run.config
    backbone = (config.get("backbone") or {}).get("name")
    parts = [
        str(config.get("name", run.path.name)),
        f"backbone {backbone}" if backbone else "",
        f"{len(run.classes)} classes",
        f"seed {config.get('seed', 0)}",
        str(run.state.get("ended", ""))[:10],
    ]
    return h("p", " · ".join(part for part in parts if part), at={"class": "muted small"})


def _at_a_glance(run: FinishedRun) -> Iterator[Html]:
    rows = list(_rows(run))
    if len(rows) > 1:
        axis = "test photos right, with 95 % intervals"
        yield h("figure", interval_plot(rows, name="glance", title="This run beside what it has to beat", axis=axis))


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
