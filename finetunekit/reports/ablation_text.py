"""An ablation in a terminal: one table a varied setting, then what the figures can and cannot say; lines of at most 80 columns."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finetunekit.runs.test_split_ledger import Openings, opened_sentence
from finetunekit.system.formatting import show_points_range, show_range
from finetunekit.system.terminal import shorten, table, wrap
from finetunekit.types import TEST, VALID

_NAMES = {VALID: "validation", TEST: "test"}
_GRID_ROWS = 20
_VALUE_COLUMNS = 14
_HEADER = ("", "value", "right", "%", "95 %", "change", "95 %", "s")


def ablation_lines(record: Mapping[str, Any]) -> tuple[str, ...]:
    """An ablation in words.

    Args:
        record: Content of `ablation.json`.

    Returns:
        Lines of at most 80 columns; first of all that the photos are a stand-in, where they are.
    """
    lines = wrap(f"STAND-IN PHOTOS: {record['stand_in']}") if record["stand_in"] else []
    for split in record["splits"]:
        for curve in record["curves"]:
            lines += [*_curve_lines(record, curve, split), ""]
        if record["mode"] == "grid" and len(record["curves"]) > 1:
            lines += [*_grid_lines(record, split), ""]
    for text in sentences(record):
        lines += wrap(text)
    return tuple(lines)


def sentences(record: Mapping[str, Any]) -> Iterator[str]:
    """What the figures mean, and what they do not."""
    cells, seeds = sum(1 for cell in record["cells"] if cell["scores"]), len(record["seeds"])
    if seeds == 1:
        yield (
            "95 % intervals over photos: Wilson's, and for differences that of answers to the same photos. One seed: luck in "
            "training is not in them."
        )
    else:
        yield (
            f"95 % intervals over {seeds} seeds (Student's t): other trainings, the same photos. ablation.json has those "
            "over photos as well."
        )
    if cells > 2:
        yield f"{cells - 1} differences were looked at, and none is corrected for that: of 20 that are not real, one looks real by luck."
    failed = [(cell, seed, why) for cell in record["cells"] for seed, why in cell["failed"].items()]
    for cell, seed, why in failed:
        yield f"Failed: {_values(cell)}, seed {seed}: {why}"
    if TEST in record["splits"]:
        yield _opened(record["openings"])
    else:
        settings = [f" --set {shlex.quote(setting)}" for setting in record["settings"]]
        settings += [f" --set {shlex.quote(curve['path'] + '=VALUE')}" for curve in record["curves"]]
        again = f"finetunekit run {shlex.quote(record['preset'])}{''.join(settings)}"
        yield f"No test photo was looked at. Choose here, then score the choice once: {again}"


def _opened(openings: Mapping[str, Any] | None) -> str:
    if openings is None:
        return "How often the test split was opened could not be recorded."
    opened = opened_sentence(Openings(**openings))
    return (
        f"Every run opened the test split: a value chosen by these figures gets a flattering score from them. {opened}"
    )


def _curve_lines(record: Mapping[str, Any], curve: Mapping[str, Any], split: str) -> Iterator[str]:
    photos = next((c["scores"][split]["photos"] for c in record["cells"] if c["scores"]), 0)
    named = curve["key"] if curve["key"] == curve["path"] else f"{curve['key']} ({curve['path']})"
    yield from wrap(f"{named}, {photos:,} {_NAMES[split]} photos")
    rows = [
        (
            ">" if i == curve["own"] else "",
            shorten(point["value"], _VALUE_COLUMNS),
            *_row(record["cells"][point["cell"]], split),
        )
        for i, point in enumerate(curve["points"])
    ]
    yield from table(rows, _HEADER, right=range(2, 8))
    yield "> the preset's own; change: points of accuracy against it, same photos"


def _grid_lines(record: Mapping[str, Any], split: str) -> Iterator[str]:
    """Every cell, the best first."""
    scored = [cell for cell in record["cells"] if cell["scores"]]
    ranked = sorted(scored, key=lambda cell: (-cell["scores"][split]["correct"], cell["scores"][split]["log_loss"]))
    yield from wrap(f"every combination, by {_NAMES[split]} accuracy; the first is first partly by luck")
    rows = [(">" if cell["is_preset"] else "", _values(cell), *_row(cell, split)) for cell in ranked[:_GRID_ROWS]]
    yield from table(rows, _HEADER, right=range(2, 8), wrapped=(1,))
    if len(ranked) > _GRID_ROWS:
        yield f"and {len(ranked) - _GRID_ROWS} more in ablation.json"


def _row(cell: Mapping[str, Any], split: str) -> tuple[str, ...]:
    if cell["scores"] is None:
        return ("failed", "", "", "", "", "")
    score = cell["scores"][split]
    against = score["against_preset"]
    points = "" if against is None else f"{100 * against['difference']:+.1f}"
    between = "" if against is None else show_points_range(interval_of(against))
    right, share = number(score["correct"]), f"{100 * score['accuracy']:.1f}"
    return right, share, show_range(interval_of(score)), points, between, f"{cell['seconds']:.0f}"


def interval_of(score: Mapping[str, Any]) -> Mapping[str, Any]:
    """The interval to quote: over seeds where there are several, else over photos."""
    spread = score["over_seeds"]
    chosen: Mapping[str, Any] = score["interval"] if spread is None else spread["interval"]
    return chosen


def number(count: float) -> str:
    """A count, or a mean of counts with one decimal."""
    return f"{count:,.0f}" if count == int(count) else f"{count:,.1f}"


def _values(cell: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in cell["values"].items())


def spread_words(seeds: Sequence[int]) -> str:
    """What an interval of the table is over."""
    return "over photos" if len(seeds) == 1 else f"over {len(seeds)} seeds"
