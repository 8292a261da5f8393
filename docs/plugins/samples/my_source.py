"""A data source: one folder of photos named `class_place_number.jpg`; all photos of a place go to the same split."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import Field

from finetunekit import DataError, Options, PhotoListing, PhotoRecord, SourceContext, hookimpl, photo_suffixes
from finetunekit.hookspecs import Register


class NamesOptions(Options):
    """Options of `file_names`."""

    separator: str = Field("_", min_length=1, description="Separator between class, place and number.")
    one_in: int = Field(
        5, ge=3, le=100, description="One place out of this many is for testing, and another one for validation."
    )


def build_names(options: NamesOptions, context: SourceContext) -> PhotoListing:
    """List the photos of `data.root`; none is opened.

    Args:
        options: How names are read, and how places are dealt out.
        context: `root` is the folder.

    Returns:
        Its photos. More photos of the same places leave every split as it was; a new place may not.

    Raises:
        DataError: If there is no folder, a name cannot be read, or there are too few places to deal out.
    """
    if context.root is None or not context.root.is_dir():
        raise DataError(f"data.root: no folder {context.root}. Name the folder that holds the photos.")
    paths = sorted(path for path in context.root.iterdir() if path.suffix.lower() in photo_suffixes())
    named = {path: _read(path, options.separator) for path in paths}
    places = {place for _, place in named.values()}
    if len(places) < options.one_in:
        raise DataError(
            f"{context.root}: {len(places)} places; one in {options.one_in} needs at least {options.one_in}."
        )
    splits = _deal(places, options.one_in)
    photos = (PhotoRecord(path, label, splits[place], group=place) for path, (label, place) in named.items())
    return PhotoListing(tuple(photos), context.root)


def _read(path: Path, separator: str) -> tuple[str, str]:
    """`lion_river_07.jpg` → `lion`, `river`."""
    parts = path.stem.split(separator)
    if len(parts) != 3:
        raise DataError(f"{path}: a name has to be like lion{separator}river{separator}07. Rename it or move it away.")
    return parts[0], parts[1]


def _deal(places: set[str], one_in: int) -> dict[str, str]:
    """Place → split, in the order of a hash of its name: as good as by chance, and the same every time."""
    order = sorted(places, key=lambda place: hashlib.blake2b(place.encode()).digest())
    return {place: {0: "test", 1: "valid"}.get(turn % one_in, "train") for turn, place in enumerate(order)}


@hookimpl
def register_data_sources(register: Register) -> None:
    """One data source."""
    register("file_names", build_names, NamesOptions)
