"""Data source `my_component`: photos that a table lists."""

from __future__ import annotations

import csv

from pydantic import Field

from finetunekit import DataError, Options, PhotoListing, PhotoRecord, SourceContext, hookimpl
from finetunekit.hookspecs import Register

COLUMNS = ("path", "label", "split")


class MyComponentOptions(Options):
    """Options of `my_component`."""

    table: str = Field("photos.csv", min_length=1, description="CSV file in data.root: path, label, split.")


def build_my_component(options: MyComponentOptions, context: SourceContext) -> PhotoListing:
    """List the photos of a table; none is opened.

    Args:
        options: The table's name.
        context: `root` is the folder that paths in the table begin at.

    Returns:
        Its photos, in its order. Splits are `train`, `valid`, `test` and, without labels if you like, `display`.

    Raises:
        DataError: If the table is missing or lacks a column.
    """
    if context.root is None:
        raise DataError("data.root: data source 'my_component' needs the folder that holds the table. Set data.root.")
    path = context.root / options.table
    if not path.is_file():
        raise DataError(f"{path}: no such file. It lists the photos: {', '.join(COLUMNS)}.")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    missing = [column for column in COLUMNS if rows and column not in rows[0]]
    if missing or not rows:
        raise DataError(f"{path}: needs rows with the columns {', '.join(COLUMNS)}.")
    photos = (PhotoRecord(context.root / row["path"], row["label"], row["split"]) for row in rows)
    return PhotoListing(tuple(photos), context.root)


@hookimpl
def register_data_sources(register: Register) -> None:
    """One data source."""
    register("my_component", build_my_component, MyComponentOptions)
