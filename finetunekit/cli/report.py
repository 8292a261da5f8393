"""`finetunekit report`."""

from __future__ import annotations

import click

from finetunekit.cli.common import make_progress, out_option, print_lines, trust_option


@click.command("report")
@click.argument("run")
@out_option
@trust_option
def command(run: str, out: str, trust: bool) -> None:
    """Rebuild the reports of RUN from its folder alone: a run's folder, its name, or 'last'.

    Prints again what the run found, and how often its test split has been opened so far.
    """
    from finetunekit.engine.api import rebuild_reports, summarise_run

    print_lines(summarise_run(run, out=out))
    print_lines(rebuild_reports(run, out=out, progress=make_progress(), trust=trust))
