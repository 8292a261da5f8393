"""`finetunekit probe`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from finetunekit.cli.common import json_option, make_progress, preset_options, print_json, print_lines
from finetunekit.system.terminal import shorten, table, wrap

if TYPE_CHECKING:
    from finetunekit.experiments.probe_ranking import ProbeScore, RankedProbe, Ranking

_CONTRACTS = {"backbone": "own", "zero_to_one": "0..1", "minus_one_to_one": "-1..1", "zero_to_255": "0..255"}
_LEGEND = (
    "right, log loss: photos left out by nested cross-validation, with 95 % intervals. pixels: own is what the backbone was pretrained on. "
    "fit: how a photo becomes the square. s: seconds for features (nearly 0 where they were kept) and fits."
)


@click.command("probe")
@preset_options
@click.option(
    "--backbones", metavar="A,B,A+B,…", help="Registered names, A+B joined; default: those whose weights are on disk."
)
@click.option("--sizes", metavar="PX,…", help="Input sides, or native; default: the preset's and native.")
@click.option("--contracts", metavar="A,B,…", help="Pixel contracts; default: the backbone's and the preset's.")
@click.option(
    "--fits",
    metavar="A,B,…",
    help="stretch, crop (the backbone's own), crop:SHARE, pad; default: the preset's, crop and crop:1.",
)
@click.option("--folds", type=click.IntRange(2, 100), default=5, show_default=True, help="Outer and inner folds.")
@click.option("--write", "out", type=click.Path(path_type=Path), metavar="FILE", help="Write the best one as a preset.")
@json_option
def command(
    preset: str,
    settings: tuple[str, ...],
    seed: int | None,
    backbones: str | None,
    sizes: str | None,
    contracts: str | None,
    fits: str | None,
    folds: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Rank backbones, pixel contracts, sizes and fits for the photos of PRESET.

    A linear probe on frozen features stands for each of them, scored by nested cross-validation on training and
    validation photos. Test photos are not looked at, and no network is trained.
    """
    import dataclasses

    from finetunekit.data.listing import index_listing, list_photos
    from finetunekit.data.preset_from_photos import check_out
    from finetunekit.experiments.backbone_search import list_candidates, write_winner
    from finetunekit.experiments.probe_ranking import rank_probes

    progress = make_progress()
    if out is not None:
        check_out(out)
    if seed is not None:
        settings = (*settings, f"seed={seed}")
    plans, left_out = list_candidates(
        preset,
        settings=settings,
        backbones=_names(backbones),
        sizes=_sizes(sizes),
        contracts=_names(contracts),
        fits=_names(fits),
        progress=progress,
    )
    if not plans:
        raise click.UsageError("nothing to probe: " + "; ".join(f"{name}: {why}" for name, why in left_out.items()))
    index = index_listing(plans[0], list_photos(plans[0], progress), progress)
    ranking = rank_probes(plans, index, progress, folds=folds, left_out=left_out)
    if out is not None:
        write_winner(out, preset, ranking, settings=settings, progress=progress)
    if as_json:
        print_json({**dataclasses.asdict(ranking), "written": str(out) if out else None})
        return
    print_lines([*_lines(ranking), *([f"written: {out}"] if out else [])])


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _sizes(text: str | None) -> tuple[int | Literal["native"], ...]:
    sizes: list[int | Literal["native"]] = []
    for part in _names(text):
        if part == "native":
            sizes.append("native")
        elif part.isdecimal() and len(part) < 6 and 8 <= int(part) <= 2048:
            sizes.append(int(part))
        else:
            raise click.BadParameter(f"'{part}' is neither `native` nor a side in pixels from 8 to 2048.")
    return tuple(sizes)


def _lines(ranking: Ranking) -> Iterator[str]:
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
    from finetunekit.experiments.probe_ranking import fit_words

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
        f"The first of {len(ranking.ranked)} is first partly by luck. With the choice made anew inside each outer fold, "
        f"{score.correct:,} of {score.photos:,} photos left out were right: {_right(score)} %, log loss {_loss(score)}. "
        f"That is the figure to quote for {best.backbone} at {best.size_px} px; no test photo was looked at."
    )


def _left_out(reasons: dict[str, str]) -> Iterator[str]:
    """Backbones that were not asked for and are not here in one sentence, anything else with its reason."""
    absent = [name for name in reasons if "," not in name]
    if absent:
        shown = ", ".join(absent[:4]) + (" and so on" if len(absent) > 4 else "")
        backbones = "1 backbone was" if len(absent) == 1 else f"{len(absent)} backbones were"
        yield ""
        yield from wrap(
            f"{backbones} left out, since the weights are not on this machine: {shown}. --backbones NAME fetches them; "
            "`finetunekit backbones` says from where."
        )
    for name, why in reasons.items():
        if name not in absent:
            yield from wrap(f"left out: {name}: {why}", hanging=2)
