"""`finetunekit data show`."""

from __future__ import annotations

from pathlib import Path

import click

from finetunekit.cli.common import make_progress, print_lines
from finetunekit.cli.photo_set import choose_set
from finetunekit.system.formatting import counted


@click.command("show")
@click.argument("photos", metavar="DIR|TABLE|ARCHIVE|PRESET|RUN")
@click.option("--split", type=click.Choice(["train", "valid", "test", "display"]), default="train", show_default=True,
              help="Split to show.")  # fmt: skip
@click.option("--per-class", type=click.IntRange(1, 1000), default=12, show_default=True, help="Photos per class.")
@click.option("--class", "labels", multiple=True, metavar="NAME", help="Show only this class. Repeatable.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the choice of photos."
)
@click.option("--tile", "tile_px", type=click.IntRange(32, 1024), default=144, show_default=True, metavar="PX",
              help="Side of a tile.")  # fmt: skip
@click.option("--columns", type=click.IntRange(1, 40), default=6, show_default=True, help="Photos per row (.png).")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help=".html or .png; default: <name>-photos.html."
)
@click.option("--set", "settings", multiple=True, metavar="A.B=VALUE", help="Change a value of PRESET. Repeatable.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE",
              help="Option of the data source, such as photos=DIR for a table. Repeatable.")  # fmt: skip
def show(
    *,
    photos: str,
    split: str,
    per_class: int,
    labels: tuple[str, ...],
    seed: int,
    tile_px: int,
    columns: int,
    out: Path | None,
    settings: tuple[str, ...],
    options: tuple[str, ...],
) -> None:
    """Make a contact sheet: photos of each class side by side, in a single self-contained file.

    The test split stays closed unless --split asks for it.
    """
    from finetunekit.errors import ConfigError
    from finetunekit.reports.contact_sheet import make_sheet
    from finetunekit.system.files import write_whole

    if out is not None and out.suffix.lower() not in (".html", ".png"):
        raise ConfigError(f"--out {out}: a sheet is .html or .png. Received: '{out.suffix}'")
    progress = make_progress()
    chosen = choose_set(photos, progress, settings=settings, options=options)
    sheet = make_sheet(
        chosen,
        split=split,
        per_class=per_class,
        labels=labels,
        seed=seed,
        tile_px=tile_px,
        progress=progress.counter("making tiles"),
    )
    target = out or Path(f"{chosen.name}-photos.html")
    if target.suffix.lower() == ".png":
        from finetunekit.reports.contact_sheet_png import sheet_png

        write_whole(target, sheet_png(sheet, columns=columns))
    else:
        from finetunekit.reports.contact_sheet_page import sheet_page

        write_whole(target, sheet_page(sheet))
    print_lines([f"{sheet.subtitle}; {counted(len(sheet.rows), 'class')}", target])
