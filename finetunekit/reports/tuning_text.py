"""A search in a terminal: its best trials, then what its figures can and cannot say; lines of at most 80 columns."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetunekit.reports.words import NONE
from finetunekit.runs.test_split_ledger import Openings, opened_sentence
from finetunekit.system.formatting import counted, show_percent, show_range
from finetunekit.system.terminal import shorten, table, wrap

_ROWS = 12
_VALUE_COLUMNS = 14
_WINNER_FILE = "winner.yaml"


def tuning_lines(record: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """A search in words.

    Args:
        record: Content of `tune.json`.
        folder: Of the search, for the commands.

    Returns:
        Lines of at most 80 columns; first of all that the photos are a stand-in, where they are.
    """
    lines = wrap(f"STAND-IN PHOTOS: {record['stand_in']}") if record["stand_in"] else []
    lines += [*_table(record), ""]
    for text in (*sentences(record), *next_commands(record, folder)):
        lines += wrap(text)
    return tuple(lines)


def ranked(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The trials: finished ones by their loss, then those stopped early, then those that failed."""
    order = {"complete": 0, "pruned": 1, "failed": 2}
    return sorted(record["trials"], key=lambda t: (order[t["state"]], t["log_loss"] or 0.0, t["number"]))


def sentences(record: Mapping[str, Any]) -> Iterator[str]:
    """What the figures mean, and what they do not."""
    yield _counts(record)
    if record["under_way"]:
        yield (
            f"{counted(len(record['under_way']), 'trial')} under way in other processes; the last one to end runs the winner on the test "
            "split."
        )
    yield from _preset(record)
    yield from _selection(record)
    yield from _winner(record)
    yield from _nested(record)
    if record["importances"]:
        shares = sorted(record["importances"].items(), key=lambda pair: -pair[1])
        yield (
            "Of the spread of the losses, on a logarithmic scale, explained by: "
            + ", ".join(f"{key} {100 * share:.0f} %" for key, share in shares)
            + "."
        )
    failed = [trial for trial in record["trials"] if trial["state"] == "failed"]
    for trial in failed[:3]:
        yield f"Trial {trial['number']} failed: {trial['why']}"
    if len(failed) > 3:
        yield f"{len(failed) - 3} more failed; tune.json says why."


def next_commands(record: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """How the winner is run again."""
    if record["best"] is not None:
        yield f"The winner as a preset: finetunekit run {shlex.quote(str(folder / _WINNER_FILE))}"


def _table(record: Mapping[str, Any]) -> Iterator[str]:
    keys = [setting["key"] for setting in record["space"]]
    yield from wrap(f"{record['metric']} on {record['photos'] or 0:,} photos, the lowest first")
    shown = ranked(record)
    rows = [_row(trial, keys, record) for trial in shown[:_ROWS]]
    header = ("", "trial", "log loss", "right", *(_heading(key, keys) for key in keys), "epochs", "s")
    right = {1, 2, 3, len(header) - 2, len(header) - 1}
    yield from table(rows, header, right=right, wrapped=range(4, 4 + len(keys)))
    if len(shown) > _ROWS:
        yield f"and {len(shown) - _ROWS} more in trials.csv"
    has_dash = any(trial["values"][key] == NONE for trial in shown for key in keys)
    yield "> the preset itself" + (f"; {NONE}: its own value, which the range has not" if has_dash else "")


def _heading(key: str, keys: Sequence[str]) -> str:
    last = key.rpartition(".")[2]
    return shorten(last if sum(k.rpartition(".")[2] == last for k in keys) == 1 else key, _VALUE_COLUMNS, keep="end")


def _row(trial: Mapping[str, Any], keys: Sequence[str], record: Mapping[str, Any]) -> tuple[str, ...]:
    loss = trial["state"] if trial["log_loss"] is None else f"{trial['log_loss']:.4f}"
    right = "" if trial["correct"] is None else f"{trial['correct']:,}"
    values = (shorten(trial["values"][key], _VALUE_COLUMNS) for key in keys)
    seconds = "" if trial["seconds"] is None else f"{trial['seconds']:.0f}"
    epochs = "" if trial["epochs"] is None else str(trial["epochs"])
    return ("" if trial["number"] else ">", str(trial["number"]), loss, right, *values, epochs, seconds)


def _counts(record: Mapping[str, Any]) -> str:
    states = [trial["state"] for trial in record["trials"]]
    words = [f"{counted(len(states), 'trial')} of seed {record['seed']}: {states.count('complete')} finished"]
    words += [f"{states.count('pruned')} stopped early"] if "pruned" in states else []
    words += [f"{states.count('failed')} failed"] if "failed" in states else []
    return ", ".join(words) + ". One seed each: luck in training is in every figure, and in the choice."


def _preset(record: Mapping[str, Any]) -> Iterator[str]:
    best, against = record["best"], record["against_preset"]
    if best == 0:
        yield "The preset itself is the best of them: nothing was gained by the search."
    elif against is not None:
        yield (
            f"Trial {best} is best: log loss {-against['difference']:.4f} below that of the preset itself on the same photos, "
            f"{counted(against['gained'], 'photo')} gained and {against['lost']:,} lost."
        )
    elif best is not None:
        yield f"Trial {best} is best; the preset itself could not be trained."


def _selection(record: Mapping[str, Any]) -> Iterator[str]:
    """What choosing did to the validation figure."""
    found = record["selection"]
    if found is None:
        return
    low, high = found["interval"]["low"], found["interval"]["high"]
    yield (
        f"The winner's validation figure flatters it, since it was chosen by it: {found['apparent']:.4f} and "
        f"{show_percent(found['apparent_accuracy'])} right. Chosen by drawn photos and scored on the others, the best of "
        f"{found['candidates']} comes to {found['corrected']:.4f} ({low:.4f} to {high:.4f}) and "
        f"{show_percent(found['corrected_accuracy'])}; the same trial was chosen in {100 * found['stability']:.0f} % of the draws."
    )


def _winner(record: Mapping[str, Any]) -> Iterator[str]:
    """The figure that no choice has touched."""
    winner = record["winner"]
    if winner is None:
        return
    if winner["failed"]:
        yield f"The winner could not be run on the test split: {winner['failed']}"
        return
    test = winner["test"]
    if test is None:
        yield "The test split stays closed, as the preset says (evaluate.test: false)."
        return
    yield (
        f"On the test split, which chose nothing: {test['correct']:,} of {test['photos']:,} right ({show_percent(test['accuracy'])}, 95 % "
        f"{show_range(test['interval'])}), log loss {test['log_loss']:.4f}; {winner['valid']['log_loss']:.4f} on the photos that chose "
        "it. This is the figure to quote."
    )
    openings = winner["openings"]
    yield (
        "How often it was opened could not be recorded." if openings is None else opened_sentence(Openings(**openings))
    )


def _nested(record: Mapping[str, Any]) -> Iterator[str]:
    """What this way of choosing is worth."""
    nested = record["nested"]
    if nested is None:
        return
    accuracy, loss = nested["pooled"]["accuracy"], nested["pooled"]["log_loss"]
    yield (
        f"Nested cross-validation, the whole search without each of {nested['folds']} parts of all photos and its winner scored on that "
        f"part: {accuracy['successes']:,} of {accuracy['photos']:,} right ({show_percent(accuracy['value'])}, 95 % over photos "
        f"{show_range(accuracy['interval'])}), log loss {loss['value']:.4f}. This is what searching so is worth on photos like these."
    )
    chosen = "; ".join(
        f"fold {i}: {', '.join(f'{key} {value}' for key, value in one['values'].items())}"
        for i, one in enumerate(nested["winners"], start=1)
    )
    yield f"What won in each: {chosen}."
    if nested["openings"] is not None:
        yield f"The test split is among these photos. {opened_sentence(Openings(**nested['openings']))}"
