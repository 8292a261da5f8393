"""What a fetch leaves behind: a table of the photos, who made them and under which licence, and how many are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetunekit import to_csv, write_whole
from finetunekit_inaturalist import FetchError
from finetunekit_inaturalist.journal import Journal
from finetunekit_inaturalist.photo import Photo

ATTRIBUTION, TABLE = "ATTRIBUTION.csv", "photos.csv"
_SPLITS = ("train", "valid", "test")


def write_tables(journal: Journal) -> None:
    """Write `ATTRIBUTION.csv` and `photos.csv`, ordered by split, class and number, whatever the order of arrival.

    Raises:
        RunFolderError: If they cannot be written.
    """
    photos = sorted(journal.photos.values(), key=_order)
    for name, rows in ((ATTRIBUTION, list(map(_attribution, photos))), (TABLE, list(map(_row, photos)))):
        write_whole(journal.root / name, to_csv(rows, list(rows[0])))


def licence_url(licence: str) -> str:
    """The text of a licence. iNaturalist's API names no version; this is 4.0, and 1.0 of CC0, the newest ones."""
    if licence == "cc0":
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    return f"https://creativecommons.org/licenses/{licence.removeprefix('cc-')}/4.0/"


def _order(photo: Photo) -> tuple[int, str, int]:
    return _SPLITS.index(photo.split), photo.label, photo.candidate.photo_id


def _attribution(photo: Photo) -> dict[str, str | int]:
    source = photo.candidate
    return {
        "path": photo.path,
        "licence": source.licence,
        "licence_url": licence_url(source.licence),
        "author": source.author,
        "attribution": source.attribution,
        "observation_url": source.observation_url,
        "photo_id": source.photo_id,
        "photo_url": source.url,
        "taxon": source.taxon,
        "quality": source.quality,
        "observer": source.observer,
        "sha256": photo.sha256,
        "size_bytes": photo.size_bytes,
        "width_px": photo.width_px,
        "height_px": photo.height_px,
    }


def _row(photo: Photo) -> dict[str, str]:
    """A row of the table that data source `table` reads."""
    group = f"observer-{photo.candidate.observer_id}"
    return {"file_name": photo.path, "label": photo.label, "split": photo.split, "group": group}


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is there now.

    Attributes:
        root: The set's folder.
        images: The folder with the splits, for `data.root`.
        counts: Class → split → photos.
        passed_over: Photos that were asked for and not taken.
        requests: Requests sent by this call; 0 where everything was there already.
        missing: Sentences about classes with fewer photos than asked for.
    """

    root: Path
    images: Path
    counts: Mapping[str, Mapping[str, int]]
    passed_over: int
    requests: int
    missing: tuple[str, ...]


def summarise(journal: Journal, *, sent: int) -> Fetched:
    """What a journal says is there.

    Args:
        journal: Of a fetch that came to its end.
        sent: Requests of this call.

    Raises:
        FetchError: If a split of a class is empty.
    """
    asked = journal.spec.counts.by_split()
    counts = {label: {split: journal.count(label, split) for split in asked} for label in journal.spec.classes}
    missing, empty = [], []
    for label, found in counts.items():
        short = {split: f"{found[split]} of {count} {split}" for split, count in asked.items() if found[split] < count}
        if short:
            missing.append(f"{label}: {', '.join(short.values())}; iNaturalist has no more that fit")
        empty += [f"{label} has no {split} photo" for split in short if not found[split]]
    if empty:
        raise FetchError(
            f"{journal.root}: {'; '.join(empty)}. Allow more licences, grades or photos of one observer, or choose another taxon."
        )
    return Fetched(journal.root, journal.root / "images", counts, len(journal.passed_over), sent, tuple(missing))
