"""`finetunekit verify`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from finetunekit.cli.common import json_option, out_option, print_json, print_lines


@click.command("verify")
@click.argument("run")
@out_option
@json_option
@click.pass_context
def command(ctx: click.Context, run: str, out: str, as_json: bool) -> None:
    """Test RUN against the published result that its preset reproduces (expected:).

    RUN is a run's folder, its name, or 'last'. Runs on a stand-in are refused.

    \b
    Exit codes:
      0  reproduced
      5  not reproduced
      6  too few photos to say
      2  nothing to verify: a stand-in, or no 'expected:' in the preset
      1  the run is not finished or cannot be read
    """
    from finetunekit.runs.folder import find_run
    from finetunekit.runs.verify import verdict_lines, verify_run

    verdict = verify_run(find_run(run, Path(out)))
    if as_json:
        print_json(dataclasses.asdict(verdict))
    else:
        print_lines(verdict_lines(verdict))
    ctx.exit(verdict.exit_code)
