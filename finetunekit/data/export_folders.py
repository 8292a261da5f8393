"""A data source's photos as folders of files, `<split>/<class>/<name>`: practice photos drawn to size, for a tutorial or a test."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from finetunekit.config.plan import Chosen
from finetunekit.config.validation_errors import describe_problems
from finetunekit.data.listing import ask_source
from finetunekit.errors import ConfigError, DataError
from finetunekit.plugins.host import PluginHost
from finetunekit.system.files import read_regular
from finetunekit.system.progress import Progress
from finetunekit.types import DISPLAY, SPLITS, TRAIN, PhotoListing, PhotoRecord, SourceContext

MARKER = ".finetunekit-photos.json"
_COUNT = "per_class_"


@dataclass(frozen=True, slots=True)
class Written:
    """Photos in folders.

    Attributes:
        root: The folder.
        counts: Split → number of photos.
        is_new: Whether they were made now; the same ones may have been there already.
    """

    root: Path
    counts: Mapping[str, int]
    is_new: bool


def choose_drawing(
    host: PluginHost, source: str, *, per_class: int | None, size_px: int | None, seed: int | None
) -> Chosen:
    """A data source that draws, and its options from what the command line says.

    Args:
        host: Loaded plugins.
        source: Name of the data source. Its options are called `per_class_<split>`, `size_px` and `draw_seed`.
        per_class: Training photos a class; the other splits keep their proportion to it, at least one photo each.
        size_px: Side of a photo.
        seed: Seed of the drawings.

    Raises:
        ConfigError: If there is no such data source, it does not draw, or a number is out of its bounds.
    """
    registered = host.find("data source", source, "data draw")
    defaults = {name: field.default for name, field in registered.options.model_fields.items()}
    if f"{_COUNT}{TRAIN}" not in defaults:
        raise ConfigError(f"data draw: data source '{source}' draws nothing: it has no option {_COUNT}{TRAIN}.")
    asked: dict[str, Any] = {"size_px": size_px, "draw_seed": seed}
    if per_class is not None:
        asked |= _in_proportion(defaults, per_class)
    values = json.dumps({name: value for name, value in asked.items() if value is not None})
    try:
        return Chosen("data source", registered, registered.options.model_validate_json(values), ("data",))
    except pydantic.ValidationError as exc:
        raise ConfigError(describe_problems(exc, registered.options, {}, f"data draw: {source}", ())) from exc


def _in_proportion(defaults: Mapping[str, Any], per_class: int) -> dict[str, int]:
    whole = defaults[f"{_COUNT}{TRAIN}"]
    scaled = {name: round(count * per_class / whole) for name, count in defaults.items() if name.startswith(_COUNT)}
    return {name: max(1, count) for name, count in scaled.items()} | {f"{_COUNT}{TRAIN}": per_class}


def write_photos(source: Chosen, root: Path, progress: Progress) -> Written:
    """Write a data source's photos to `root/<split>/<class>/`, those to show to `root/display/`.

    Everything is made beside its place and renamed when it is whole, so that the folder has all of it or is not there.

    Args:
        source: Data source with its options; it needs no `data.root`.
        root: A folder that is new, empty, or holds the same photos from an earlier call.
        progress: Says what goes on.

    Raises:
        DataError: If the folder holds something else or cannot be written, or the source lists no photo.
        PluginError: If the source does not return a `PhotoListing`.
    """
    content = _content(source)
    try:
        if _is_there(root, content):
            return Written(root, _count_files(root), is_new=False)
        with _scratch_beside(root) as scratch:
            listing = _list_into(source, scratch, progress)
            _lay_out(listing, scratch / root.name, scratch)
            (scratch / root.name / MARKER).write_text(content, encoding="utf-8")
            if root.exists():
                root.rmdir()  # it is empty; Windows renames onto nothing that exists
            os.replace(scratch / root.name, root)
    except OSError as exc:
        raise DataError(
            f"{root}: photos cannot be written there ({exc.strerror or exc}). Choose another folder."
        ) from exc
    return Written(root, _count_files(root), is_new=True)


def _content(source: Chosen) -> str:
    """What the folder holds, as its marker says it."""
    found = source.to_dict()
    return json.dumps({key: found[key] for key in ("name", "options", "distribution", "version")}, indent=2) + "\n"


def _is_there(root: Path, content: str) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not root.is_dir():
        raise DataError(f"{root}: is a file. Name a folder that is new or empty.")
    marker = root / MARKER
    if not marker.is_file():
        raise DataError(f"{root}: is not empty, and what is in it was not made by this command. Choose another folder.")
    if read_regular(marker) != content.encode():
        raise DataError(
            f"{root}: holds photos made with other settings, or by another version. Choose another folder, or delete this one."
        )
    return True


@contextmanager
def _scratch_beside(root: Path) -> Iterator[Path]:
    root.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.absolute().parent) as scratch:
        yield Path(scratch)


def _list_into(source: Chosen, scratch: Path, progress: Progress) -> PhotoListing:
    """What the source makes, it makes in the scratch folder, so that moving it costs nothing."""
    progress.say(f"making photos with data source '{source.name}' ({source.registered.origin})")
    context = SourceContext(root=None, cache_dir=scratch / "made", seed=0, say=progress.show)
    listing = ask_source(source, context)
    if not listing.photos:
        raise DataError(f"data source '{source.name}' lists no photo, so that there is nothing to write.")
    return listing


def _lay_out(listing: PhotoListing, root: Path, scratch: Path) -> None:
    for photo in listing.photos:
        place = _free_place(root / _folder(photo) / photo.path.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if photo.path.is_relative_to(scratch):
            os.replace(photo.path, place)
        else:
            shutil.copyfile(photo.path, place)


def _folder(photo: PhotoRecord) -> Path:
    if photo.split == DISPLAY or photo.label is None:
        return Path(photo.split)
    return Path(photo.split) / photo.label


def _free_place(place: Path) -> Path:
    """Photos of one class may lie in several folders under one name."""
    number, first = 1, place
    while place.exists():
        number += 1
        place = first.with_name(f"{first.stem}-{number}{first.suffix}")
    return place


def _count_files(root: Path) -> dict[str, int]:
    return {
        split: sum(path.is_file() for path in (root / split).rglob("*")) for split in SPLITS if (root / split).is_dir()
    }
