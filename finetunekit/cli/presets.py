"""`finetunekit presets`."""

from __future__ import annotations

from pathlib import Path

import click

from finetunekit.cli.common import (
    WholeLines,
    json_option,
    load_host,
    make_progress,
    print_json,
    print_lines,
    print_table,
)


@click.group("presets", cls=WholeLines)
def command() -> None:
    """List, show and make presets."""


@command.command("list")
@json_option
def list_presets(as_json: bool) -> None:
    """List presets: their names, which plugin provides each, and what it does."""
    from finetunekit.config.preset import read_document

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
        print_table([(row["name"], row["description"]) for row in rows], ("preset", "description"), wrapped=(1,))


@command.command("show")
@click.argument("preset")
def show(preset: str) -> None:
    """Print the YAML of PRESET, including its comments."""
    from finetunekit.config.preset import find_preset
    from finetunekit.config.yaml_source import read_yaml_text

    path = find_preset(preset, load_host().presets, relative_to=Path())
    print_lines(line.expandtabs() for line in read_yaml_text(path, str(path)).splitlines())


@command.command("new")
@click.argument("name")
@click.option(
    "--from",
    "base",
    default="small-data",
    show_default=True,
    metavar="PRESET",
    help="Preset to extend: a name, or a YAML file.",
)
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), metavar="PHOTOS", help="A folder, table or archive."
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="The file; default: NAME.yaml.")
def new(name: str, base: str, data: Path, out: Path | None) -> None:
    """Write NAME.yaml: a preset for your own photos that extends another one.

    PHOTOS is a folder that contains one folder per class, or train, valid and test folders with one folder per class
    in each. It can also be a table or an archive. Photos are counted and not opened. The preset is checked before it
    is written, and every class has to have photos in every split. An existing file is never replaced.
    """
    from finetunekit.data.preset_from_photos import write_preset
    from finetunekit.types import TEST, TRAIN, VALID

    progress = make_progress()
    made = write_preset(name, base, data, out, progress=progress)
    for note in made.notes:
        progress.say(f"note: {note}")
    splits = (TRAIN, VALID, TEST)
    rows = [(label, *(count[split] for split in splits)) for label, count in made.counts.items()]
    print_table(rows, ("class", *splits), right=(1, 2, 3))
    print_lines([f"wrote {made.path}, and {made.schema} for editors. Next:", f"  {made.command}"])
