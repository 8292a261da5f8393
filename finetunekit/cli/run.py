"""`finetunekit run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetunekit.cli.common import json_option, make_progress, out_option, preset_options, print_json

if TYPE_CHECKING:
    from finetunekit.folds import FoldsResult


@click.command("run")
@preset_options
@out_option
@json_option
@click.option("--seeds", type=click.IntRange(2, 1000), help="Run this many seeds and say how far they spread.")
@click.option("--folds", type=click.IntRange(3, 100), help="Cross-validate with this many folds (train.folds).")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(
    preset: str,
    settings: tuple[str, ...],
    seed: int | None,
    out: str,
    as_json: bool,
    seeds: int | None,
    folds: int | None,
    quiet: bool,
) -> None:
    """Train, evaluate and report PRESET: a preset's name, or the path of a YAML file.

    The last line on stdout is the path of the report, or of the run's folder where its reports have no page. With --folds there is a
    run for each fold in one folder, and scores of all photos; 'finetunekit resume' goes on where it was stopped.
    """
    from finetunekit.engine import run, run_seeds
    from finetunekit.runs import report_page

    progress = make_progress(is_quiet=quiet)
    settings = (*settings, f"train.folds={folds}") if folds else settings
    if seeds is None and _is_cross_validation(preset, settings):
        from finetunekit.folds import run_folds

        echo_folds(run_folds(preset, settings=settings, seed=seed, out=out, progress=progress), as_json=as_json)
        return
    if seeds is None:
        result = run(preset, settings=settings, seed=seed, out=out, progress=progress)
        found, summary, paths = {"path": result.path, "metrics": result.metrics}, result.summary, [result.path]
    else:
        several = run_seeds(preset, seeds, settings=settings, seed=seed, out=out, progress=progress)
        paths = [one.path for one in several.runs]
        found, summary = {"paths": paths, "scores": several.scores}, several.summary
    if as_json:
        print_json(found)
        return
    for line in summary:
        click.echo(line)
    for path in paths:
        click.echo(str(report_page(path)))


def _is_cross_validation(preset: str, settings: tuple[str, ...]) -> bool:
    from finetunekit.engine import prepare

    train = prepare(preset, settings=settings, progress=make_progress(is_quiet=True))[0].config.train
    return train.folds is not None and train.fold is None


def echo_folds(found: FoldsResult, *, as_json: bool) -> None:
    """Print a cross-validation; the last line is its folder."""
    if as_json:
        print_json({"path": found.path, "runs": [result.path for result in found.runs], "scores": found.scores})
        return
    for line in (*found.summary, str(found.path)):
        click.echo(line)
