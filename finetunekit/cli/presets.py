"""`finetunekit presets`."""

from __future__ import annotations

import click

from finetunekit.cli.common import json_option, load_host, print_json, print_table


@click.group("presets")
def command() -> None:
    """List and show presets."""


@command.command("list")
@json_option
def list_presets(as_json: bool) -> None:
    """Names of presets, which plugin gives each, and what it does."""
    from finetunekit.presets import read_document

    host = load_host()
    rows = [
        {
            "name": name,
            "description": str(read_document(name, host.presets).values.get("description", "")),
            "path": str(path),
            "distribution": str(origin),
        }
        for name, (path, origin) in sorted(host.presets.items())
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(("preset", "description"), [(row["name"], row["description"]) for row in rows])


@command.command("show")
@click.argument("preset")
def show(preset: str) -> None:
    """Print the YAML of PRESET, comments and all."""
    from pathlib import Path

    from finetunekit.presets import find_preset

    path = find_preset(preset, load_host().presets, relative_to=Path())
    click.echo(path.read_text(encoding="utf-8"), nl=False)
