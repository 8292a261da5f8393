"""The photos of a run as rows: what was read, by content."""

from __future__ import annotations

from finetunekit.data.index import PhotoIndex
from finetunekit.system.files import to_csv

MANIFEST_COLUMNS = ("path", "sha256", "label", "split", "width_px", "height_px")


def manifest_rows(index: PhotoIndex) -> list[dict[str, str | int]]:
    """One row a photo and split, in the order of the index.

    Args:
        index: The photos.

    Returns:
        Rows with the keys `MANIFEST_COLUMNS`: `path` relative to the index's root and on one line, `sha256` of the
        file, `label` empty where the photo has none, the size in pixels as decoded, the right way up.
    """
    return [
        {
            "path": photo.shown,
            "sha256": photo.sha256,
            "label": photo.label or "",
            "split": photo.split,
            "width_px": photo.width_px,
            "height_px": photo.height_px,
        }
        for photo in index.photos
    ]


def manifest_csv(index: PhotoIndex) -> str:
    """What `photos.csv` of a run holds."""
    return to_csv(manifest_rows(index), MANIFEST_COLUMNS)
