"""`finetunekit plan`."""

from __future__ import annotations

import click

from finetunekit.cli.common import json_option, make_progress, preset_options, print_json


@click.command("plan")
@preset_options
@json_option
def command(preset: str, settings: tuple[str, ...], seed: int | None, as_json: bool) -> None:
    """Show what PRESET would do: every component, option and default, and which plugin gave it. Reads no photo."""
    from finetunekit.engine import prepare

    plan, _ = prepare(preset, settings=settings, seed=seed, progress=make_progress())
    if as_json:
        print_json(plan.to_dict())
        return
    for line in plan.lines():
        click.echo(line)
