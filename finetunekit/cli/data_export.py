"""`finetunekit data export`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from finetunekit.cli.common import make_progress, print_lines
from finetunekit.cli.photo_set import choose_set


@click.command("export")
@click.argument("photos", metavar="DIR|TABLE|ARCHIVE|PRESET|RUN")
@click.option("--croissant", "target", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Write MLCommons Croissant metadata to this file.")  # fmt: skip
@click.option("--licence", "licences", multiple=True, metavar="URL|SPDX", help="Licence of the photos. Repeatable.")
@click.option("--date", "published", type=click.DateTime(["%Y-%m-%d"]), help="Date of publication, YYYY-MM-DD.")
@click.option("--set", "settings", multiple=True, metavar="A.B=VALUE", help="Change a value of PRESET. Repeatable.")
def export(
    photos: str, target: Path, licences: tuple[str, ...], published: datetime | None, settings: tuple[str, ...]
) -> None:
    """Describe photos for other tools: files with checksums, labels, splits, licences and citation.

    FILE has to be in the folder of the photos or above it, since it names them relative to itself. Authors and
    licences come from ATTRIBUTION.csv if there is one.
    """
    from finetunekit.data.profile.croissant import croissant_metadata
    from finetunekit.system.files import write_whole

    progress = make_progress()
    chosen = choose_set(photos, progress, settings=settings)
    text = croissant_metadata(
        chosen,
        target,
        licences=licences,
        published=published.strftime("%Y-%m-%d") if published else None,
        progress=progress.counter("hashing photos"),
    )
    if '"license"' not in text:
        progress.say("note: no licence is known. Give one with --licence, or put an ATTRIBUTION.csv beside the photos.")
    write_whole(target, text)
    print_lines([target])
