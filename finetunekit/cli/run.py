"""`finetunekit run`."""

from __future__ import annotations

import click

from finetunekit.cli.common import json_option, make_progress, out_option, preset_options, print_json


@click.command("run")
@preset_options
@out_option
@json_option
@click.option("--seeds", type=click.IntRange(2, 1000), help="Run this many seeds and say how far they spread.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(
    preset: str,
    settings: tuple[str, ...],
    seed: int | None,
    out: str,
    as_json: bool,
    seeds: int | None,
    quiet: bool,
) -> None:
    """Train, evaluate and report PRESET: a preset's name, or the path of a YAML file.

    The last line on stdout is the path of the report, or of the run's folder where its reports have no page.
    """
    from finetunekit.engine import run, run_seeds
    from finetunekit.runs import report_page

    progress = make_progress(is_quiet=quiet)
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
