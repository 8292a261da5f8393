"""`finetunekit features`."""

from __future__ import annotations

from typing import Literal

import click

from finetunekit.cli.common import json_option, listing_options, make_progress, on_option, print_written, shard_option


@click.command("features")
@click.argument("data")
@click.option("--backbone", required=True, metavar="NAME", help="Registered name; A+B joins two.")
@click.option(
    "--out",
    "folder",
    required=True,
    metavar="DIR",
    help="Folder of shards, or its address (s3://…); if it is incomplete, the command continues it.",
)
@click.option("--set", "settings", multiple=True, metavar="A.B=VALUE", help="Pixels, weights, precision. Repeatable.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the numbers; float16 is half as large and rounds them.",
)
@click.option(
    "--unlabelled", "is_unlabelled", is_flag=True, help="Take every photo below DATA, without labels and splits."
)
@on_option
@listing_options
@shard_option
@json_option
def command(
    *,
    data: str,
    backbone: str,
    folder: str,
    settings: tuple[str, ...],
    dtype: Literal["float32", "float16"],
    is_unlabelled: bool,
    on: str | None,
    options: tuple[str, ...],
    shard_photos: int,
    as_json: bool,
) -> None:
    """Write a backbone's features for any number of photos: a folder, table, archive, run or preset.

    Writes Parquet shards with checksums, one vector per photo. Photos that cannot be read are listed in a side table.
    If it is interrupted, the same command continues.
    """
    from finetunekit.config.executor_choice import without_executor
    from finetunekit.engine.shard_jobs import make_shards
    from finetunekit.evaluation.shards.drive import write_shards
    from finetunekit.evaluation.shards.jobs import features_job
    from finetunekit.evaluation.shards.photos import labelled_photos
    from finetunekit.system.parquet import check_pyarrow

    check_pyarrow("features")
    progress = make_progress()
    job = features_job(backbone, settings=without_executor(settings), dtype=dtype)
    job.plan(progress)  # what is wrong with it is said before photos are looked for
    make = make_shards(data, on, [*job.settings, *settings], progress)
    photos = labelled_photos(data, options, progress, is_unlabelled=is_unlabelled)
    print_written(write_shards(job, photos, folder, progress, shard_photos=shard_photos, make=make), as_json=as_json)
