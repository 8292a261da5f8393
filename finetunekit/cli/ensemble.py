"""`finetunekit ensemble`."""

from __future__ import annotations

import click

from finetunekit.cli.common import json_option, make_progress, out_option, print_json, print_lines, trust_option


@click.command("ensemble")
@click.argument("runs", nargs=-1, required=True)
@click.option("--name", help="Of the new run.  [default: the first run's, with -ensemble]")
@out_option
@trust_option
@json_option
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(runs: tuple[str, ...], name: str | None, out: str, trust: bool, as_json: bool, quiet: bool) -> None:
    """Make one run of several finished RUNS: the mean of their weights or of their probabilities; nothing is trained.

    A run is a run's folder, its name, or the folder of several seeds or folds. Validation photos decide what is averaged;
    the test split is opened once, for the result.
    """
    from finetunekit.experiments.ensemble import ensemble
    from finetunekit.runs.folder import report_page

    result = ensemble(*runs, name=name, out=out, progress=make_progress(is_quiet=quiet), trust=trust)
    if as_json:
        print_json({"path": result.path, "metrics": result.metrics})
        return
    print_lines([*result.summary, report_page(result.path)])
