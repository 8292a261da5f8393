"""A contact sheet: photos of each class, chosen by seed, for an eye that looks before it trains."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit.data.decode import decode_photo
from finetunekit.data.index import shown_path
from finetunekit.data.parallel import gather
from finetunekit.data.profile.photo_set import PhotoSet
from finetunekit.errors import ConfigError, DataError, did_you_mean
from finetunekit.system.formatting import escaped
from finetunekit.types import SPLITS, TRAIN, PhotoRecord

if TYPE_CHECKING:
    from PIL import Image

#: A sheet is looked at by a person; more tiles than this are no sheet.
MAX_TILES = 5000


@dataclass(frozen=True, slots=True)
class Tile:
    """One photo of a sheet.

    Attributes:
        shown: Path relative to the set's root, on one line.
        picture: Fitted into the tile, the right way up; None where the photo cannot be decoded.
        width_px: Of the photo itself.
        height_px: Of the photo itself.
        problem: Why there is no picture.
    """

    shown: str
    picture: Image.Image | None
    width_px: int = 0
    height_px: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """The tiles of a class, and how many photos they were chosen from."""

    label: str
    tiles: tuple[Tile, ...]
    photos: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything that is drawn.

    Attributes:
        title: Name of the set.
        subtitle: Which photos these are.
        rows: One a class, by name.
        tile_px: Side of a tile.
        stand_in: The sentence that says so if these are not the user's photos.
    """

    title: str
    subtitle: str
    rows: tuple[SheetRow, ...]
    tile_px: int
    stand_in: str | None


def make_sheet(
    photos: PhotoSet,
    *,
    split: str = TRAIN,
    per_class: int = 12,
    labels: Sequence[str] = (),
    seed: int = 0,
    tile_px: int = 144,
    progress: Callable[[int, int], None] | None = None,
) -> Sheet:
    """Choose photos of each class and make them small.

    Args:
        photos: The set.
        split: Whose photos.
        per_class: Photos of each class, at most as many as there are.
        labels: Classes to show; none for all.
        seed: Another seed chooses others.
        tile_px: Side of a tile.
        progress: Called with (photos done, photos in all).

    Raises:
        ConfigError: If the split has no photos, a class is not there, or there would be too many tiles.
    """
    found = _by_label([record for record in photos.listing.photos if record.split == split])
    if not found:
        there = dict.fromkeys(record.split for record in photos.listing.photos)
        raise ConfigError(f"--split {split}: no photos there.{did_you_mean(split, [s for s in SPLITS if s in there])}")
    for label in labels:
        if label not in found:
            raise ConfigError(f"--class {label}: no such class in {split}.{did_you_mean(label, found)}")
    wanted = {label: found[label] for label in sorted(labels or found)}
    chosen = {label: choose_photos(records, per_class, seed, photos.listing.root) for label, records in wanted.items()}
    count = sum(map(len, chosen.values()))
    if count > MAX_TILES:
        raise ConfigError(
            f"{count} photos are too many for one sheet (at most {MAX_TILES}). Take fewer with --per-class or --class."
        )
    tiles = _make_tiles([record for records in chosen.values() for record in records], photos, tile_px, progress)
    rows = tuple(
        SheetRow(label, tuple(tiles[record.path] for record in records), len(wanted[label]))
        for label, records in chosen.items()
    )
    subtitle = f"{count} of {sum(map(len, wanted.values()))} {split} photos, chosen with seed {seed}"
    return Sheet(photos.name, subtitle, rows, tile_px, photos.listing.stand_in)


def choose_photos(records: Sequence[PhotoRecord], count: int, seed: int, root: Path) -> list[PhotoRecord]:
    """Photos with the smallest hashes of seed and path, in the order of their paths: one more photo in the folder changes one at most."""

    def rank(record: PhotoRecord) -> bytes:
        return hashlib.sha256(f"{seed}\0{shown_path(record.path, root)}".encode()).digest()

    return sorted(sorted(records, key=rank)[:count], key=lambda record: str(record.path))


def _by_label(records: Sequence[PhotoRecord]) -> dict[str, list[PhotoRecord]]:
    found: dict[str, list[PhotoRecord]] = {}
    for record in records:
        found.setdefault(record.label or "", []).append(record)
    return found


def _make_tiles(
    records: Sequence[PhotoRecord], photos: PhotoSet, tile_px: int, progress: Callable[[int, int], None] | None
) -> Mapping[Path, Tile]:
    paths = list(dict.fromkeys(record.path for record in records))

    def work(path: Path) -> Tile:
        return _make_tile(path, shown_path(path, photos.listing.root), photos.max_pixels, tile_px)

    tiles, _ = gather(work, paths, workers=2, progress=progress)
    return dict(zip(paths, tiles, strict=True))


def _make_tile(path: Path, shown: str, max_pixels: int, tile_px: int) -> Tile:
    from PIL import Image

    try:
        pixels = decode_photo(path, max_pixels=max_pixels)
    except DataError as exc:
        reason = str(exc).removeprefix(f"{escaped(str(path))}: ").partition(". ")[0]
        return Tile(shown, None, problem=reason)
    photo = Image.fromarray(pixels)
    scale = tile_px / max(photo.size)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    return Tile(shown, photo.resize(size, Image.Resampling.LANCZOS), photo.width, photo.height)
