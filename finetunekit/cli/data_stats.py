"""`finetunekit data stats`."""

from __future__ import annotations

import click

from finetunekit.cli.common import json_option, make_progress, print_json, print_lines
from finetunekit.cli.photo_set import choose_set


@click.command("stats")
@click.argument("photos", metavar="DIR|TABLE|ARCHIVE|PRESET|RUN")
@click.option("--set", "settings", multiple=True, metavar="A.B=VALUE", help="Change a value of PRESET. Repeatable.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE",
              help="Option of the data source, such as photos=DIR for a table. Repeatable.")  # fmt: skip
@click.option("--headers", "is_headers", is_flag=True, help="Read only headers: no channels, no count of grey photos.")
@json_option
def stats(photos: str, settings: tuple[str, ...], options: tuple[str, ...], is_headers: bool, as_json: bool) -> None:
    """Count and measure the photos of a folder, a preset or a run.

    Shows the number of photos per class and split, sizes, aspect ratios, formats, photos that are stored rotated or
    have no colour, and the mean and standard deviation of each channel in the units that the network is fed with.
    """
    import dataclasses

    from finetunekit.data.known_photos import open_known_photos
    from finetunekit.data.profile.summary_statistics import measure_set
    from finetunekit.reports.dataset_statistics_text import statistics_lines

    progress = make_progress()
    chosen = choose_set(photos, progress, settings=settings, options=options)
    with open_known_photos(progress.say) as known:
        count = progress.counter("looking at photos")
        found = measure_set(chosen, has_pixels=not is_headers, known=known, progress=count)
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    print_lines(statistics_lines(found))
