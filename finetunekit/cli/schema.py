"""`finetunekit schema`."""

from __future__ import annotations

from pathlib import Path

import click

from finetunekit.cli.common import load_host, print_json, print_lines


@click.command("schema")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file instead of stdout.")
def command(out: Path | None) -> None:
    """Print the JSON Schema of a preset, including the options of the installed plugins.

    An editor with a YAML language server uses it to complete and check presets, if a comment at their top names it:

    # yaml-language-server: $schema=schema.json
    """
    from finetunekit.config.json_schema import preset_schema
    from finetunekit.system.files import to_json, write_whole

    schema = preset_schema(load_host())
    if out is None:
        print_json(schema)
        return
    write_whole(out, to_json(schema))
    print_lines([out])
