"""`finetunekit replay`."""

from __future__ import annotations

import dataclasses

import click

from finetunekit.cli.common import (
    json_option,
    make_progress,
    on_option,
    out_option,
    print_json,
    print_lines,
    trust_option,
)


@click.command("replay")
@click.argument("run")
@out_option
@trust_option
@on_option
@json_option
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(run: str, out: str, as_json: bool, quiet: bool, trust: bool, on: str | None) -> None:
    """Repeat RUN in a new folder and check whether the result is the same: a run's folder, its name, or 'last'.

    Exits with 1 if it is not.
    """
    from finetunekit.engine.api import replay

    again = replay(run, out=out, on=on, progress=make_progress(is_quiet=quiet), trust=trust)
    if as_json:
        print_json({"path": again.result.path, "of": again.of, **dataclasses.asdict(again.verdict)})
    else:
        print_lines([*again.summary, again.result.path])
    if not again.verdict.is_same:
        click.get_current_context().exit(1)
