"""What leaving sources out says: how far the score falls on photos of a source that was not trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from finetunekit.evaluation.scores import score_splits
from finetunekit.statistics import Proportion, paired_interval
from finetunekit.system.formatting import counted, escaped, show_expected, show_percent
from finetunekit.system.terminal import WIDTH_COLUMNS, shorten, wrap
from finetunekit.types import TEST

Rows = Sequence[Mapping[str, str]]


def leave_out_scores(left: Mapping[str, Rows], usual: Rows, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of every source when it was left out.

    Args:
        left: Source → test predictions of the run without it, as in `predictions.csv`; photos of that source only.
        usual: Test predictions of the run on all photos.
        metrics: Content of its `metrics.json`.

    Returns:
        Plain values: `classes`, `stand_in`, `seed`; `usual`: accuracy of the run on all photos; `pooled`: every score of all photos that
        were left out; `sources`: for each its photos, accuracy and log loss, and as `shared` the comparison with the run on all photos
        on those that are test photos of both; `shared`: that comparison over all sources.

    Source: intervals as for one test split (`score_splits`); the paired one: `paired_interval`. Photos of one source err together, so that
        an interval over photos says nothing about further sources.
    """
    classes, known = metrics["classes"], {row["path"]: _is_right(row) for row in usual}
    sources = {source: _source(rows, classes, known) for source, rows in left.items()}
    return {
        "classes": classes,
        "stand_in": metrics["stand_in"],
        "seed": metrics["seed"],
        "usual": metrics[TEST]["accuracy"],
        "pooled": score_splits([row for rows in left.values() for row in rows], classes, (TEST,))[TEST],
        "sources_scored": sources,
        "shared": _shared([row for rows in left.values() for row in rows], known),
    }


def _source(rows: Rows, classes: Sequence[str], known: Mapping[str, bool]) -> dict[str, Any]:
    found = score_splits(rows, classes, (TEST,))[TEST]
    return {"accuracy": found["accuracy"], "log_loss": found["log_loss"], "shared": _shared(rows, known)}


def _shared(rows: Rows, known: Mapping[str, bool]) -> dict[str, Any] | None:
    """The run without a source against the one with it, on photos that neither was trained on; None where there are none."""
    pairs = [(known[row["path"]], _is_right(row)) for row in rows if row["path"] in known]
    if not pairs:
        return None
    gained, lost = sum(now and not was for was, now in pairs), sum(was and not now for was, now in pairs)
    return {
        "photos": len(pairs),
        "usual": dataclasses.asdict(Proportion.build(sum(was for was, _ in pairs), len(pairs), 0.95)),
        "left_out": dataclasses.asdict(Proportion.build(sum(now for _, now in pairs), len(pairs), 0.95)),
        "difference": (gained - lost) / len(pairs),
        "interval": dataclasses.asdict(paired_interval(gained, lost, len(pairs))),
    }


def _is_right(row: Mapping[str, str]) -> bool:
    return row["true"] == row["predicted"]


def leave_out_lines(scores: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences for a terminal.

    Args:
        scores: From `leave_out_scores`, and `kept`: source → why it was not left out.

    Returns:
        Lines of at most 80 columns; first of all that the photos are a stand-in, where they are.
    """
    text = [f"STAND-IN PHOTOS: {scores['stand_in']}"] if scores["stand_in"] else []
    text.append(f"Trained on photos of all sources: {_right(scores['usual'])} test photos right.")
    text.append(unseen_sentence(scores))
    text += _source_lines(scores["sources_scored"])
    if (shared := scores["shared"]) is not None:
        interval = shared["interval"]
        text.append(
            f"On the {counted(shared['photos'], 'photo')} that both tested: {shared['left_out']['successes']:,} right without their "
            f"source, {shared['usual']['successes']:,} with it; {100 * shared['difference']:+.1f} points "
            f"(95 % interval {100 * interval['low']:+.1f} to {100 * interval['high']:+.1f})."
        )
    if scores["kept"]:
        kept = ", ".join(map(escaped, scores["kept"]))
        text.append(f"{counted(len(scores['kept']), 'source')} could not be left out: {kept}.")
    text.append(
        "These intervals are over photos of these sources; another source may be easier or harder than any of them."
    )
    return tuple(line for part in text for line in (wrap(part) if not part.startswith("  ") else (part,)))


def _source_lines(sources: Mapping[str, Any]) -> list[str]:
    rights = {source: _right(found["accuracy"]) for source, found in sources.items()}
    room = WIDTH_COLUMNS - 4 - max(map(len, rights.values()))
    names = {source: shorten(escaped(source), room) for source in sources}
    width = max(map(len, names.values()))
    return [f"  {names[source]:<{width}}  {right}" for source, right in rights.items()]


def unseen_sentence(scores: Mapping[str, Any]) -> str:
    """The figure to put beside a test score."""
    return (
        f"On photos of a source that was not trained on: {_right(scores['pooled']['accuracy'])} right "
        f"({counted(len(scores['sources_scored']), 'source')}, each left out once)."
    )


def _right(accuracy: Mapping[str, Any]) -> str:
    share = f"{show_percent(accuracy['value'])}; {show_expected(accuracy['interval'])}"
    return f"{accuracy['successes']:,} of {accuracy['photos']:,} ({share})"
