"""A comparison in words: the verdict first, lines of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from finetunekit.runs.comparison import ChangedPhoto, ComparedRun, Comparison, RunPair
from finetunekit.runs.config_diff import Change
from finetunekit.statistics import Equivalence, Interval
from finetunekit.statistics.intervals import normal_quantile
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
        return f"On so many, {_points(needed.difference)} would mostly have shown ({100 * needed.power:.0f} % power)."
    return f"Telling {_points(needed.difference)} apart would take about {about(needed.photos)} photos like these."


def _equivalence(test: Equivalence, pair: RunPair) -> str:
    call_with_timeout = f"to within {_points(test.margin)} ({_change(test.interval)})"
    if test.is_equivalent:
        return f"They are equally accurate {call_with_timeout}."
    z = normal_quantile(test.interval.level)
    # Source: Tango's interval where no photo changed sides, plus or minus z² / (photos + z²).
    least = int(z * z * (1.0 - test.margin) / test.margin) + 1
    more = f" That takes {least:,} photos even if none changes sides." if pair.common < least else ""
    return f"They were not shown to be equally accurate {call_with_timeout}.{more}"


def _run_lines(runs: Sequence[ComparedRun]) -> Iterator[str]:
    for run in runs:
        low, high = 100 * run.interval.low, 100 * run.interval.high
        seed = "" if run.seed is None else f", seed {run.seed}"
        yield f"run {run.number}  {shorten(str(run.path), WIDTH_COLUMNS - 8 - len(seed), keep='end')}{seed}"
        share = 100 * run.correct / run.photos
        yield f"       {run.correct} of {run.photos} right: {share:.1f} % (95 % interval {low:.1f} to {high:.1f} %)"
        if run.copies:
            yield f"       {_count(run.copies, 'test photo')} left out: copies of others, and a copy counts once"


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
    holm = [("", f"{p_words(pair.p_adjusted)} adjusted for {len(comparison.pairs)} pairs (Holm)")]
    rows = (
        (
            "accuracy",
            f"{100 * scores.accuracy_difference:+.1f} points ({_change(scores.accuracy_interval)}, Tango)",
        ),
        ("", f"({_change(scores.accuracy_bootstrap)}, paired bootstrap)"),
        ("log loss", f"{scores.log_loss_difference:+.4f} nats ({_nats(scores.log_loss_interval, 0.95)})"),
        ("", f"{log_loss_words(scores.log_loss_interval)} (paired bootstrap; lower is better)"),
        ("McNemar", f"exact {p_words(test.p_exact)}, mid-{p_words(test.p_mid)}"),
        *(holm if len(comparison.pairs) > 1 else ()),
        (
            "photos",
            f"{about(needed.photos)} to tell {_points(needed.difference)} apart"
            f" ({about(needed.photos_low)} to {about(needed.photos_high)}; power {100 * needed.power:.0f} %)",
        ),
    )
    yield from table(rows, indent=2)


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
    yield f"  {title}: {_count(len(changes), 'difference')}"
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
    return f"{100 * interval.level:.0f} % interval {100 * interval.low:+.1f} to {100 * interval.high:+.1f}"


def _nats(interval: Interval, level: float) -> str:
    return f"{100 * level:.0f} % interval {interval.low:+.4f} to {interval.high:+.4f}"


def _points(fraction: float) -> str:
    points = 100 * fraction
    return "1 point" if abs(points - 1.0) < 1e-9 else f"{points:g} points"


def p_words(value: float) -> str:
    """`p = 0.013`, `p < 0.001`."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def about(photos: int) -> str:
    """Two significant digits: the guess behind it carries no more."""
    return f"{int(float(f'{photos:.1e}')):,}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _photos(number: int) -> str:
    return _count(number, "photo")
