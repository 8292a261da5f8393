"""Who made the photos of a set, as an `ATTRIBUTION.csv` beside them says: matched by content, so that a moved photo keeps its author."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetunekit.errors import DataError
from finetunekit.system.files import read_regular
from finetunekit.system.formatting import escaped

FILE = "ATTRIBUTION.csv"
_NEEDED = ("sha256", "licence", "licence_url", "author", "observation_url")


@dataclass(frozen=True, slots=True)
class Credit:
    """What has to be said of a photo.

    Attributes:
        licence: Its short name.
        licence_url: Its text.
        author: Who made the photo.
        source_url: Where it is from.
    """

    licence: str
    licence_url: str
    author: str
    source_url: str


def read_credits(root: Path) -> Mapping[str, Credit]:
    """SHA-256 → credit, from `ATTRIBUTION.csv` in a set's folder or in the one above it; empty where there is none.

    Raises:
        DataError: If the file is there and cannot be read, or lacks a column.
    """
    path = next((folder / FILE for folder in (root, root.parent) if (folder / FILE).is_file()), None)
    if path is None:
        return {}
    try:
        text = read_regular(path).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"{escaped(str(path))}: cannot be read ({exc}). Mend it, or move it away.") from exc
    lacking = [name for name in _NEEDED if rows and name not in rows[0]]
    if lacking:
        raise DataError(f"{escaped(str(path))}: has no column {', '.join(lacking)}. Mend it, or move it away.")
    return {
        row["sha256"]: Credit(row["licence"], row["licence_url"], row["author"], row["observation_url"]) for row in rows
    }
