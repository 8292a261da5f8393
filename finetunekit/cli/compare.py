"""`finetunekit compare`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from finetunekit.cli.common import json_option, out_option, print_json, print_lines


@click.command("compare")
@click.argument("runs", nargs=-1, required=True)
@out_option
@json_option
@click.option(
    "--margin",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    metavar="POINTS",
    help="Also test whether the runs are equally accurate within this many percentage points.",
)
@click.option(
    "--log-loss-margin",
    type=click.FloatRange(min=0, min_open=True),
    metavar="NATS",
    help="Also test whether their log losses are equal within this margin.",
)
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Also write it as a page.")
@click.option("--strict", is_flag=True, help="Refuse runs whose test photos differ at all.")
@click.option(
    "--all", "show_all", is_flag=True, help="Show every photo that only one run gets right, instead of at most ten."
)
def command(
    runs: tuple[str, ...],
    out: str,
    as_json: bool,
    margin: float | None,
    log_loss_margin: float | None,
    page: Path | None,
    strict: bool,
    show_all: bool,
) -> None:
    """Compare finished RUNS with the first of them, on the test photos that they share.

    A run is a run's folder, its name, or 'last'. State margins before you look.
    """
    from finetunekit.experiments.compare import compare_runs
    from finetunekit.reports.comparison_text import comparison_lines
    from finetunekit.runs.folder import find_run

    paths = [find_run(run, Path(out)) for run in runs]
    comparison = compare_runs(paths, margin_points=margin, log_loss_margin=log_loss_margin, is_strict=strict)
    if page is not None:
        from finetunekit.reports.comparison_page import write_page

        write_page(comparison, page)
    if as_json:
        print_json(dataclasses.asdict(comparison))
        return
    print_lines([*comparison_lines(comparison, is_all=show_all), *([page] if page else [])])
