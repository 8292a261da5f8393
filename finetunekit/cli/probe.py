"""`finetunekit probe`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from finetunekit.cli.common import json_option, make_progress, on_option, preset_options, print_json, print_lines

if TYPE_CHECKING:
    from finetunekit.experiments.probe_ranking import Ranking


def _or_features(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--features`, in place of a preset and its candidates."""

    @functools.wraps(function)
    def choose(*, features: tuple[str, ...], seed: int | None, folds: int, as_json: bool, **of_preset: Any) -> None:
        if not features:
            function(seed=seed, folds=folds, as_json=as_json, **of_preset)
            return
        if any(of_preset.values()):
            raise click.UsageError("--features goes with --folds, --seed and --json alone.")
        from finetunekit.experiments.feature_ranking import rank_features

        _print(rank_features(features, make_progress(), folds=folds, seed=seed or 0), None, as_json=as_json)

    return click.option(
        "--features",
        multiple=True,
        metavar="DIR",
        help="Features that `finetunekit features` wrote, in a folder or at an address (s3://…), instead of PRESET. Repeatable.",
    )(choose)


@click.command("probe")
@_or_features
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
@on_option
@json_option
def command(
    *,
    preset: str,
    settings: tuple[str, ...],
    seed: int | None,
    backbones: str | None,
    sizes: str | None,
    contracts: str | None,
    fits: str | None,
    folds: int,
    out: Path | None,
    on: str | None,
    as_json: bool,
) -> None:
    """Rank backbones, pixel contracts, sizes and fits for the photos of PRESET.

    Each candidate is represented by a linear probe on frozen features, scored by nested cross-validation on training
    and validation photos. Test photos are not looked at, and no network is trained.
    """
    from finetunekit.config.executor_choice import executor_settings, without_executor
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
        settings=(*executor_settings(on), *settings),
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
        write_winner(out, preset, ranking, settings=without_executor(settings), progress=progress)
    _print(ranking, out, as_json=as_json)


def _print(ranking: Ranking, out: Path | None, *, as_json: bool) -> None:
    import dataclasses

    from finetunekit.experiments.probe_text import ranking_lines

    if as_json:
        print_json({**dataclasses.asdict(ranking), "written": str(out) if out else None})
        return
    print_lines([*ranking_lines(ranking), *([f"written: {out}"] if out else [])])


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
