"""`finetunekit data`."""

from __future__ import annotations

from pathlib import Path

import click

from finetunekit.cli.common import WholeLines, load_host, make_progress, print_lines
from finetunekit.cli.data_audit import audit, changes
from finetunekit.cli.data_export import export
from finetunekit.cli.data_fetch import fetch
from finetunekit.cli.data_label_studio import label_studio
from finetunekit.cli.data_show import show
from finetunekit.cli.data_split import split
from finetunekit.cli.data_stats import stats
from finetunekit.cli.data_suggest import labelled, suggest


@click.group("data", cls=WholeLines)
def command() -> None:
    """Fetch, draw, inspect, check, split and describe photos."""


@command.command("draw")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--per-class", type=click.IntRange(min=1), metavar="N", help="Training photos per class.")
@click.option("--size", "size_px", type=click.IntRange(min=1), metavar="PX", help="Side of a photo, in pixels.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of the drawings.")
@click.option("--source", default="drawn", show_default=True, help="Data source that draws.")
def draw(folder: Path, per_class: int | None, size_px: int | None, seed: int | None, source: str) -> None:
    """Draw photos into DIR: train, valid and test folders with one folder per class, and a display folder.

    The same options give the same photos. DIR has to be new, empty, or made by the same command before. With
    --per-class, the numbers of validation and test photos stay in proportion.
    """
    from finetunekit.data.export_folders import choose_drawing, write_photos

    chosen = choose_drawing(load_host(), source, per_class=per_class, size_px=size_px, seed=seed)
    written = write_photos(chosen, folder, make_progress())
    listed = ", ".join(f"{count} {split}" for split, count in written.counts.items())
    print_lines([f"{listed}{'' if written.is_new else ' (they already existed)'}", folder])


command.add_command(fetch)
command.add_command(show)
command.add_command(stats)
command.add_command(export)
command.add_command(split)
command.add_command(audit)
command.add_command(changes)
command.add_command(suggest)
command.add_command(labelled)
command.add_command(label_studio)
