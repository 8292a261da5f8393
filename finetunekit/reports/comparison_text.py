"""A comparison in words: the verdict first, lines of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from finetunekit.reports.words import counted
from finetunekit.runs.comparison import ChangedPhoto, ComparedRun, Comparison, RunPair
from finetunekit.runs.config_diff import Change
from finetunekit.statistics import Equivalence, Interval
from finetunekit.statistics.intervals import normal_quantile
from finetunekit.system.formatting import show_percent, show_points, show_points_range, show_range
from finetunekit.system.terminal import WIDTH_COLUMNS, shorten, table, wrap

SHOWN_ROWS = 10


def comparison_lines(comparison: Comparison, *, is_all: bool = False) -> list[str]:
    """What a comparison says, for a newcomer.

    Args:
        comparison: See `compare_runs`.
        is_all: Show every photo and every difference instead of ten at most.

    Returns:
        Lines of at most 80 columns.
    """
    lines = list(_stand_in_lines(comparison.runs))
    for pair in comparison.pairs:
        lines += [line for text in verdict_sentences(comparison, pair) for line in wrap(text)]
    lines += ["", *_run_lines(comparison.runs)]
    for pair in comparison.pairs:
        lines += ["", *_pair_lines(comparison, pair, None if is_all else SHOWN_ROWS)]
    advice = "These are trained networks, not recipes; another seed may differ (run --seeds)."
    return [*lines, "", *wrap(advice)]


def _stand_in_lines(runs: Sequence[ComparedRun]) -> Iterator[str]:
    for sentence in dict.fromkeys(run.stand_in for run in runs if run.stand_in):
        numbers = [str(run.number) for run in runs if run.stand_in == sentence]
        yield from wrap(f"STAND-IN PHOTOS in run {', '.join(numbers)}: {sentence}")


def verdict_sentences(comparison: Comparison, pair: RunPair) -> Iterator[str]:
    """Whether two runs can be told apart, and whether they were shown to be equal where a margin was stated."""
    scores, photos = pair.scores, _photos(pair.common)
    names = f"Run {pair.second}", f"run {pair.first}"
    if pair.is_identical:
        text = f"{names[0]} gives exactly the probabilities of {names[1]} on all {photos}."
    elif pair.is_told_apart:
        more = "more" if scores.accuracy_difference > 0 else "less"
        text = f"{names[0]} is {more} accurate than {names[1]} on the same {photos} ({p_words(pair.p_adjusted)})."
    else:
        text = (
            f"{names[0]} and {names[1]} cannot be told apart on {photos} ({p_words(pair.p_adjusted)}). {_needed(pair)}"
        )
    yield text
    if scores.accuracy_equivalence is not None:
        yield _equivalence(scores.accuracy_equivalence, pair)
    if scores.log_loss_equivalence is not None:
        test = scores.log_loss_equivalence
        says = "are equal" if test.is_equivalent else "were not shown to be equal"
        yield f"Their log losses {says} to within {test.margin:g} nats ({_nats(test.interval, test.interval.level)})."


def _needed(pair: RunPair) -> str:
    needed = pair.scores.photos_needed
    if needed.photos <= pair.common:
        return f"With this many, {show_points(needed.difference)} would mostly have shown ({100 * needed.power:.0f} % power)."
    return f"Telling {show_points(needed.difference)} apart would take about {about(needed.photos)} photos like these."


def _equivalence(test: Equivalence, pair: RunPair) -> str:
    margin = f"to within {show_points(test.margin)} ({_change(test.interval)})"
    if test.is_equivalent:
        return f"They are equally accurate {margin}."
    z = normal_quantile(test.interval.level)
    # Source: Tango's interval where no photo changed sides, plus or minus z² / (photos + z²).
    least = int(z * z * (1.0 - test.margin) / test.margin) + 1
    more = f" That takes {least:,} photos even if none changes sides." if pair.common < least else ""
    return f"They were not shown to be equally accurate {margin}.{more}"


def _run_lines(runs: Sequence[ComparedRun]) -> Iterator[str]:
    for run in runs:
        seed = "" if run.seed is None else f", seed {run.seed}"
        yield f"run {run.number}  {shorten(str(run.path), WIDTH_COLUMNS - 8 - len(seed), keep='end')}{seed}"
        share = show_percent(run.correct / run.photos)
        yield f"       {run.correct} of {run.photos} right: {share} (95 % interval {show_range(run.interval)} %)"
        if run.copies:
            yield f"       {counted(run.copies, 'test photo')} left out: copies of others, and a copy counts once"


def _pair_lines(comparison: Comparison, pair: RunPair, limit: int | None) -> Iterator[str]:
    yield f"run {pair.second} against run {pair.first}, on the same {_photos(pair.common)}"
    if pair.only_first or pair.only_second:
        yield from wrap(
            f"Their test photos differ: only the {pair.common} they share count here; {pair.only_first} are in run"
            f" {pair.first} only, {pair.only_second} in run {pair.second} only.",
            indent=2,
        )
    yield from _score_lines(comparison, pair)
    for number, photos in ((pair.second, pair.gained), (pair.first, pair.lost)):
        yield f"  only run {number} is right: {_photos(len(photos))}"
        yield from _rows(_photo_rows(photos), ("path", "true", *_names(pair)), (30, 10, 15, 15), limit)
    yield from _change_lines("configuration", pair, pair.configuration, limit)
    if pair.machine or pair.is_machine_known:
        yield from _change_lines("machine and versions", pair, pair.machine, limit)
    else:
        yield "  machine and versions: not recorded by both runs"


def _score_lines(comparison: Comparison, pair: RunPair) -> Iterator[str]:
    scores, test = pair.scores, pair.scores.mcnemar
    needed = scores.photos_needed
    pairs = len(comparison.pairs)
    adjusted = [("", f"{p_words(pair.p_adjusted)} adjusted for {pairs} pairs; intervals hold for all {pairs} together")]
    rows = (
        (
            "accuracy",
            f"{100 * scores.accuracy_difference:+.1f} points ({_points(scores.accuracy_interval)})",
        ),
        ("log loss", f"{scores.log_loss_difference:+.4f} nats ({_nats(scores.log_loss_interval, 0.95)})"),
        ("", f"{log_loss_words(scores.log_loss_interval)} (lower is better)"),
        ("McNemar", f"exact {p_words(test.p_exact)}, mid-{p_words(test.p_mid)}"),
        *(adjusted if pairs > 1 else ()),
        (
            "photos",
            f"{about(needed.photos)} to tell {show_points(needed.difference)} apart"
            f" ({about(needed.photos_low)} to {about(needed.photos_high)}; power {100 * needed.power:.0f} %)",
        ),
    )
    yield from table(rows, indent=2)


def together(comparison: Comparison) -> str:
    """What is said beside an interval of one of several pairs."""
    return f", for all {len(comparison.pairs)} pairs together" if len(comparison.pairs) > 1 else ""


def log_loss_words(interval: Interval) -> str:
    """What an interval of a difference in log loss says."""
    if interval.contains(0.0):
        return "no difference shown"
    return "probabilities better" if interval.high < 0.0 else "probabilities worse"


def _names(pair: RunPair) -> tuple[str, str]:
    return f"run {pair.first}", f"run {pair.second}"


def _photo_rows(photos: Iterable[ChangedPhoto]) -> list[tuple[str, ...]]:
    return [
        (
            photo.path,
            photo.true,
            _said(photo.first, photo.first_probability),
            _said(photo.second, photo.second_probability),
        )
        for photo in photos
    ]


def _change_lines(title: str, pair: RunPair, changes: Sequence[Change], limit: int | None) -> Iterator[str]:
    if not changes:
        yield f"  {title}: the same"
        return
    yield f"  {title}: {counted(len(changes), 'difference')}"
    rows = [(change.key, _value(change.first), _value(change.second)) for change in changes]
    yield from _rows(rows, ("", *_names(pair)), (34, 19, 19), limit)


def _rows(
    rows: Sequence[Sequence[str]], header: Sequence[str], widest: Sequence[int], limit: int | None
) -> Iterator[str]:
    """A table; of what is too long the first column keeps its end, the others their beginning."""
    shown = rows[:limit]
    cut = [[shorten(row[0], widest[0], keep="end"), *map(shorten, row[1:], widest[1:])] for row in shown]
    yield from table(cut, header, indent=4) if cut else ()
    if len(shown) < len(rows):
        yield f"    and {len(rows) - len(shown)} more: --all shows them"


def _said(name: str, probability: float) -> str:
    return f"{shorten(name, 10)} {100 * probability:.0f} %"


def _value(value: Any) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _change(interval: Interval) -> str:
    return f"{100 * interval.level:.0f} % interval {show_points_range(interval)}"


def _points(interval: Interval) -> str:
    return f"95 % interval {show_points_range(interval)}"


def _nats(interval: Interval, level: float) -> str:
    return f"{100 * level:.0f} % interval {interval.low:+.4f} to {interval.high:+.4f}"


def p_words(value: float) -> str:
    """`p = 0.013`, `p < 0.001`."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def about(photos: int) -> str:
    """Two significant digits: the guess behind it carries no more."""
    return f"{int(float(f'{photos:.1e}')):,}"


def _photos(number: int) -> str:
    return counted(number, "photo")
