"""The baselines in words: what the run added, and whether the data can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetunekit.statistics import mcnemar_exact
from finetunekit.system.formatting import show_percent, show_points_range
from finetunekit.system.terminal import shorten, table


def baseline_sentences(baselines: Mapping[str, Any]) -> list[str]:
    """Sentences for the first paragraph of a report.

    Args:
        baselines: From `baselines_record`, with `pixels`, the difference that the pixel contract makes to the probe, where there is one.

    Returns:
        What the run added over the best baseline; what its pixels cost it, where that can be told; what the pretrained network
        says by itself, where it can be asked.
    """
    measured = {baseline["name"]: baseline for baseline in baselines["baselines"] if baseline.get("accuracy")}
    best = max(measured.values(), key=lambda baseline: baseline["accuracy"]["successes"])
    said = [_against(best, baselines)]
    pixels = _pixels(baselines.get("pixels"))
    head = measured.get("head")
    if pixels:
        said.append(pixels)
    if head and head is not best:
        title = f"{head['title'][0].upper()}{head['title'][1:]}"
        said.append(f"{title}{',' if ',' in title else ''} has {_of(head['accuracy'])} right.")
    return said


def baseline_table(baselines: Mapping[str, Any]) -> list[str]:
    """One line for each baseline and for the run, at most 80 columns."""
    rows = [
        (baseline["title"], baseline["accuracy"]) for baseline in baselines["baselines"] if baseline.get("accuracy")
    ]
    rows.append(("fine-tuned" if baselines.get("is_finetuned", True) else "this run", baselines["tuned"]))
    cells = [(shorten(title, 54), _of(score), show_percent(score["value"])) for title, score in rows]
    return table(cells, right=(1, 2), indent=2)


def _against(baseline: Mapping[str, Any], baselines: Mapping[str, Any]) -> str:
    against, score = baseline["against"], baseline["accuracy"]
    points, photos = 100 * against["difference"], f"{score['photos']:,} photos"
    between = show_points_range(against["interval"])
    tested = f"{points:+.1f} points, 95 % interval {between}, {_p(against['p_adjusted'])}"
    beside = f"{baseline['title']} ({_of(score)} right)"
    run = f"{'Fine-tuning' if baselines['is_finetuned'] else 'This run'} ({_of(baselines['tuned'])} right)"
    if not against["is_told_apart"]:
        same = "" if against["gained"] + against["lost"] else ", which gives the same answer on every one"
        return f"{run} cannot be told from the best baseline on {photos}: {beside}{same}; {tested}."
    if points > 0:
        return f"{run} adds to the best baseline, {beside}, and {photos} can tell: {tested}."
    return f"{run} did worse than a baseline that trains nothing of the network, {beside}: {tested}."


def _pixels(change: Mapping[str, Any] | None) -> str | None:
    if change is None or mcnemar_exact(change["gained"], change["lost"]).p >= 0.05:
        return None
    points = 100 * change["difference"]
    way = "would serve it better" if points > 0 else "would serve it worse"
    return (
        f"The backbone's own pixel contract {way} than the preset's: it changes the probe by {points:+.1f} points "
        f"(95 % interval {show_points_range(change['interval'])})."
    )


def _of(score: Mapping[str, Any]) -> str:
    return f"{score['successes']:,} of {score['photos']:,}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"
