"""`finetunekit resume`."""

from __future__ import annotations

import click

from finetunekit.cli.common import json_option, make_progress, out_option, print_json


@click.command("resume")
@click.argument("run")
@out_option
@json_option
@click.option("--force", is_flag=True, help="Go on although something changed; what did is noted in run.json.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(run: str, out: str, as_json: bool, force: bool, quiet: bool) -> None:
    """Take up RUN where it was killed, interrupted or failed: a run's folder, or its name.

    It loses the epoch under way at most, and ends with the same bits as a run that was never stopped. Where configuration, photos,
    weights, versions or machine changed, it says what and refuses.
    """
    from finetunekit.engine import resume

    result = resume(run, out=out, is_forced=force, progress=make_progress(is_quiet=quiet))
    if as_json:
        print_json({"path": result.path, "metrics": result.metrics})
        return
    for line in result.summary:
        click.echo(line)
    click.echo(str(result.path))
