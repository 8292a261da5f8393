"""What stands beside the photos: who made them and under which licence, and a table of paths, labels, splits and groups."""

from __future__ import annotations

from pathlib import Path

from finetunekit.data.inaturalist.journal import Journal
from finetunekit.data.inaturalist.photo import Photo
from finetunekit.system.files import to_csv, write_whole
from finetunekit.types import TEST, TRAIN, VALID

ATTRIBUTION, TABLE = "ATTRIBUTION.csv", "photos.csv"
ATTRIBUTION_COLUMNS = (
    "path",
    "licence",
    "licence_url",
    "author",
    "attribution",
    "observation_url",
    "photo_id",
    "photo_url",
    "taxon",
    "quality",
    "observer",
    "sha256",
    "size_bytes",
    "width_px",
    "height_px",
)
TABLE_COLUMNS = ("file_name", "label", "split", "group")
_SPLITS = (TRAIN, VALID, TEST)


def write_tables(journal: Journal) -> None:
    """Write `ATTRIBUTION.csv` and `photos.csv`, ordered by split, class and number, whatever the order of arrival.

    Raises:
        RunFolderError: If they cannot be written.
    """
    photos = sorted(journal.photos.values(), key=_order)
    write_whole(journal.root / ATTRIBUTION, to_csv([_attribution(photo) for photo in photos], ATTRIBUTION_COLUMNS))
    write_whole(journal.root / TABLE, to_csv([_row(photo) for photo in photos], TABLE_COLUMNS))


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


def photo_folder(root: Path) -> Path:
    """The folder with the layout `{train,valid,test}/<class>/`."""
    return root / "images"
