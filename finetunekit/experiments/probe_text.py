"""A ranking of probes in words."""

from __future__ import annotations

from collections.abc import Iterator

from finetunekit.experiments.probe_ranking import ProbeScore, RankedProbe, Ranking, fit_words
from finetunekit.system.formatting import counted
from finetunekit.system.terminal import shorten, table, wrap

_CONTRACTS = {"backbone": "own", "zero_to_one": "0..1", "minus_one_to_one": "-1..1", "zero_to_255": "0..255"}
_LEGEND = (
    "right, log loss: photos left out by nested cross-validation, with 95 % intervals. pixels: own is what the backbone was pretrained on. "
    "fit: how a photo becomes the square. s: seconds for features (nearly 0 if they were kept) and fits."
)


def ranking_lines(ranking: Ranking) -> Iterator[str]:
    """The ranking as lines: a table, and how far its first row can be believed."""
    if ranking.stand_in:
        yield from wrap(f"STAND-IN PHOTOS: {ranking.stand_in}")
    rows = [_row(rank, row) for rank, row in enumerate(ranking.ranked, start=1)]
    yield from table(rows, ("#", "backbone", "px", "fit", "pixels", "right, %", "log loss", "s"), right=(0, 2, 7))
    yield ""
    yield from wrap(_LEGEND)
    if len(ranking.ranked) > 1:
        yield ""
        yield from wrap(_honest(ranking))
    yield from _left_out(ranking.left_out)


def _row(rank: int, row: RankedProbe) -> tuple[object, ...]:
    name, pixels = shorten(row.backbone, 18), _CONTRACTS.get(row.contract, row.contract)
    fit, seconds = fit_words(row.fit, row.crop_pct), round(row.feature_s + row.fit_s)
    return rank, name, row.size_px, fit, pixels, _right(row.score), _loss(row.score), seconds


def _right(score: ProbeScore) -> str:
    interval = score.accuracy_interval
    return f"{_percent(score.accuracy)} ({_percent(interval.low)}-{_percent(interval.high)})"


def _percent(share: float) -> str:
    text = f"{100 * share:.1f}"
    return "100" if text == "100.0" else text


def _loss(score: ProbeScore) -> str:
    interval = score.log_loss_interval
    return f"{score.log_loss:.3f} ({interval.low:.3f}-{interval.high:.3f})"


def _honest(ranking: Ranking) -> str:
    score, best = ranking.chosen, ranking.ranked[0]
    return (
        f"The first of {len(ranking.ranked)} is first partly by luck. With the choice repeated inside each outer fold, {score.correct:,} "
        f"of {score.photos:,} photos left out were right: {_right(score)} %, log loss {_loss(score)}. "
        f"That is the figure to quote for {best.backbone} at {best.size_px} px; no test photo was looked at."
    )


def _left_out(reasons: dict[str, str]) -> Iterator[str]:
    """Backbones that were not asked for and are not here in one sentence, anything else with its reason."""
    absent = [name for name in reasons if "," not in name]
    if absent:
        shown = ", ".join(absent[:4]) + (" and so on" if len(absent) > 4 else "")
        backbones = counted(len(absent), "backbone was", "backbones were")
        yield ""
        yield from wrap(
            f"{backbones} left out, since the weights are not on this machine: {shown}. --backbones NAME fetches them; "
            "`finetunekit backbones` says from where."
        )
    for name, why in reasons.items():
        if name not in absent:
            yield from wrap(f"left out: {name}: {why}", hanging=2)
