"""`finetunekit run`."""

from __future__ import annotations

import click

from finetunekit.cli.common import json_option, make_progress, out_option, preset_options, print_json


@click.command("run")
@preset_options
@out_option
@json_option
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(preset: str, settings: tuple[str, ...], seed: int | None, out: str, as_json: bool, quiet: bool) -> None:
    """Train, evaluate and report PRESET: a preset's name, or the path of a YAML file.

    The last line on stdout is the path of the run.
    """
    from finetunekit.engine import run

    result = run(preset, settings=settings, seed=seed, out=out, progress=make_progress(is_quiet=quiet))
    if as_json:
        print_json({"path": result.path, "metrics": result.metrics})
        return
    for line in result.summary:
        click.echo(line)
    click.echo(str(result.path))
