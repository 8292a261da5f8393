"""Listing → index: every photo read and hashed once, labels bound by name, every problem reported before training."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.known_photos import KnownPhotos, Measured, Measurements, measure_photos
from finetunekit.data.parallel import Progress, bounded
from finetunekit.errors import DataError
from finetunekit.system.files import to_csv
from finetunekit.system.formatting import counted, escaped
from finetunekit.types import DISPLAY, SPLITS, TEST, TRAIN, VALID, PhotoListing, PhotoRecord

NO_LABEL = -1
MANIFEST_COLUMNS = ("path", "sha256", "label", "split", "width_px", "height_px")


@dataclass(frozen=True, slots=True)
class IndexedPhoto:
    """One photo of one split, read and found usable.

    Attributes:
        path: File.
        name: Path relative to the index's root with `/`, letter by letter: what tables hold and what is opened.
        label: Class name; empty where a display photo has none.
        split: One of `train`, `valid`, `test`, `display`.
        group: Photos of one group belong on one side of a split.
        sha256: Of the file, hexadecimal.
        width_px: Width as decoded, the right way up.
        height_px: Height likewise.
    """

    path: Path
    name: str
    label: str
    split: str
    group: str | None
    sha256: str
    width_px: int
    height_px: int

    @property
    def shown(self) -> str:
        """The name as people see it, on one line (line breaks, odd blanks and backslashes as Python escapes)."""
        return shown_name(self.name)


@dataclass(frozen=True, slots=True)
class PhotoIndex:
    """Every photo of every split, in a fixed order: by split, class name, folder, file name.

    Attributes:
        classes: Names of the training split's classes, sorted; a class's number is its position here.
        photos: All photos.
        root: Folder that names are relative to.
        stand_in: The sentence that says so if these are not the user's photos.
        notes: One line each about what was passed over.
    """

    classes: tuple[str, ...]
    photos: tuple[IndexedPhoto, ...]
    root: Path
    stand_in: str | None
    notes: tuple[str, ...]

    def split(self, name: str) -> tuple[IndexedPhoto, ...]:
        """The photos of one split, by class name, then folder, then file name."""
        return tuple(photo for photo in self.photos if photo.split == name)

    def labels(self, name: str) -> NDArray[np.int64]:
        """Class numbers of one split's photos, `(photos,)` int64; -1 where a display photo has no label."""
        number = {label: position for position, label in enumerate(self.classes)}
        found = [number[photo.label] if photo.label else NO_LABEL for photo in self.split(name)]
        return np.array(found, np.int64)

    def content_key(self, name: str) -> str:
        """What identifies one split: see `content_key`."""
        return content_key((photo.sha256, photo.label) for photo in self.split(name))

    def counts(self) -> dict[str, dict[str, int]]:
        """Split → class → number of photos; display photos without a label are counted under an empty name."""
        counted = Counter((photo.split, photo.label) for photo in self.photos)
        return {split: {label: n for (of, label), n in counted.items() if of == split} for split in SPLITS}


def content_key(pairs: Iterable[tuple[str, str]]) -> str:
    """SHA-256, hexadecimal, of sorted (file hash, label) pairs, whatever the files are called and wherever they lie."""
    return hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest()


def build_index(
    listing: PhotoListing,
    *,
    max_pixels: int,
    workers: int | None = None,
    progress: Progress | None = None,
    known: KnownPhotos | None = None,
) -> PhotoIndex:
    """Read every photo of a listing once: hash it, decode it, bind its label by name; see `index_measured`.

    Args:
        listing: From a data source.
        max_pixels: Photos whose header claims more are refused.
        workers: Number of threads; None: one a processor, at most 8.
        progress: Called in the calling thread with (files done, files in all); not for files that are known.
        known: What is kept of photos from one call to the next; None: every file is decoded.
    """
    paths = [record.path for record in listing.photos]
    measured = measure_photos(paths, max_pixels=max_pixels, known=known, workers=workers, progress=progress)
    return index_measured(listing, measured)


def index_measured(listing: PhotoListing, measured: Measurements) -> PhotoIndex:
    """Photos of a listing in a fixed order, with what was measured of them. A file may stand in several splits.

    Where the listing has no display photos, the test photos are displayed.

    Raises:
        DataError: All problems at once: an empty split, fewer than two classes, a class that a split lacks or that
            train lacks, class names that differ in case only, photos without a label or that cannot be read.
    """
    problems = (*check_listing(listing), *bounded([*measured.problems.values()]))
    if problems:
        raise DataError(problems)
    records = listing.photos
    if not any(record.split == DISPLAY for record in records):
        records += tuple(replace(record, split=DISPLAY) for record in records if record.split == TEST)
    ordered = sorted(records, key=photo_order)
    photos = tuple(indexed_photo(record, listing.root, measured.photos[record.path]) for record in ordered)
    classes = tuple(sorted(_count_labels(listing.photos)[TRAIN]))
    return PhotoIndex(classes, photos, listing.root, listing.stand_in, listing.notes)


def indexed_photo(record: PhotoRecord, root: Path, measured: Measured | None) -> IndexedPhoto:
    """A listed photo with what was measured of it; None: it could not be read."""
    found = (
        (measured.sha256, int(measured.traits["width_px"]), int(measured.traits["height_px"]))
        if measured
        else ("", 0, 0)
    )
    return IndexedPhoto(
        record.path, photo_name(record.path, root), record.label or "", record.split, record.group, *found
    )


def check_listing(listing: PhotoListing) -> tuple[str, ...]:
    """What is wrong with the splits and classes of a listing, one line each; no photo is read."""
    counts = _count_labels(listing.photos)
    root = escaped(str(listing.root))
    empty = [split for split in (TRAIN, VALID, TEST) if not counts[split]]
    problems = [f"{root}: no {split} photos. Put some into {split}/<class>/." for split in empty]
    problems += bounded([*_check_records(listing.photos)])
    if len(counts[TRAIN]) == 1:
        (only,) = counts[TRAIN]
        problems.append(f"{root}: train has one class only, '{escaped(only)}'. At least two are needed.")
    problems += bounded([*_check_class_names(root, {label for labels in counts.values() for label in labels})])
    twins = list(_case_twins(counts))
    problems += [_describe_twins(root, names) for names in twins]
    settled = {name for names in twins for name in names}
    return (*problems, *bounded([*_check_coverage(root, counts, settled)]))


def photo_order(record: PhotoRecord | IndexedPhoto) -> tuple[int, str, str, str]:
    """What an index is sorted by: split, class name, folder, file name."""
    # The order of Keras' flow_from_directory: classes by name, folders inside a class by path, files by name.
    return SPLITS.index(record.split), record.label or "", *os.path.split(record.path)


def shown_path(path: Path, root: Path) -> str:
    """A path as listings show it: `photo_name`, on one line."""
    return shown_name(photo_name(path, root))


def photo_name(path: Path, root: Path) -> str:
    """A path as tables hold it: relative to the root where it lies below it, with `/`; every letter as it is."""
    text, above = str(path), os.path.join(root, "")
    if text.startswith(above):
        text = text[len(above) :]
    elif str(root) != os.curdir or os.path.isabs(text):
        return path.as_posix()
    return text if os.sep == "/" else text.replace(os.sep, "/")


def shown_name(name: str) -> str:
    """A name as people see it, on one line; no two look alike."""
    if name.isprintable() and not {"\\", "'"} & set(name):
        return name  # as the line below, for nearly every name and four times as fast
    return "/".join(escaped(part) for part in name.split("/"))


def manifest_rows(index: PhotoIndex) -> list[dict[str, str | int]]:
    """One row a photo and split, in the order of the index.

    Args:
        index: The photos.

    Returns:
        Rows with the keys `MANIFEST_COLUMNS`: `path` as `photo_name` gives it, `sha256` of the
        file, `label` empty where the photo has none, the size in pixels as decoded, the right way up.
    """
    return [
        {
            "path": photo.name,
            "sha256": photo.sha256,
            "label": photo.label,
            "split": photo.split,
            "width_px": photo.width_px,
            "height_px": photo.height_px,
        }
        for photo in index.photos
    ]


def manifest_csv(index: PhotoIndex) -> str:
    """What `photos.csv` of a run holds."""
    return to_csv(manifest_rows(index), MANIFEST_COLUMNS)


def _count_labels(records: Sequence[PhotoRecord]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for record in records:
        if record.split in counts and record.label is not None:
            counts[record.split][record.label] += 1
    return counts


def _check_records(records: Sequence[PhotoRecord]) -> Iterator[str]:
    for record in records:
        name = escaped(str(record.path))
        if record.split not in SPLITS:
            yield f"{name}: unknown split '{escaped(record.split)}'. Allowed: {', '.join(SPLITS)}."
        elif record.label is None and record.split != DISPLAY:
            yield f"{name}: has no class. Every {record.split} photo needs one."


def _check_class_names(root: str, names: Iterable[str]) -> Iterator[str]:
    for name in sorted(names):
        try:
            name.encode()
        except UnicodeEncodeError:
            yield f"{root}: the class name '{escaped(name)}' is not text: its bytes are not UTF-8. Rename the folder."


def _case_twins(counts: Mapping[str, Counter[str]]) -> Iterator[tuple[str, ...]]:
    alike: dict[str, set[str]] = {}
    for name in {name for labels in counts.values() for name in labels}:
        alike.setdefault(unicodedata.normalize("NFC", name).casefold(), set()).add(name)
    for key in sorted(alike):
        if len(alike[key]) > 1:
            yield tuple(sorted(alike[key]))


def _describe_twins(root: str, names: Sequence[str]) -> str:
    shown = " and ".join(f"'{escaped(name)}'" for name in names)
    return f"{root}: classes {shown} differ only in case or in the encoding of accents. Give them one name."


def _check_coverage(root: str, counts: Mapping[str, Counter[str]], settled: set[str]) -> Iterator[str]:
    train = counts[TRAIN]
    for split in (VALID, TEST, DISPLAY):
        found = counts[split]
        missing = sorted(set(train) - set(found) - settled) if found and split != DISPLAY else []
        for name in missing:
            yield (
                f"{root}: class '{escaped(name)}' has {counted(train[name], 'train photo')} but none in {split}."
                f" Add some, or take the class out of train."
            )
        for name in sorted(set(found) - set(train) - settled) if train else []:
            yield (
                f"{root}: class '{escaped(name)}' has {counted(found[name], f'{split} photo')} but none in train."
                f" Add some, or take the class out of {split}."
            )
