"""Lists of photos to leave out, each with its reason: `data.exclude` names them, `data audit --fix` writes them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetunekit.data.index import photo_name, shown_name
from finetunekit.data.known_photos import photo_sha256
from finetunekit.data.parallel import bounded
from finetunekit.errors import DataError
from finetunekit.system.files import from_cell, read_regular, to_csv
from finetunekit.system.formatting import escaped, one_line
from finetunekit.system.user_dirs import expand_home
from finetunekit.types import PhotoListing, PhotoRecord

EXCLUSION_COLUMNS = ("path", "sha256", "split", "label", "reason")


@dataclass(frozen=True, slots=True)
class ExcludedPhoto:
    """A photo that a list leaves out.

    Attributes:
        path: As the listing shows it.
        sha256: That the list gives; empty where it gives none.
        split: The photo was listed in.
        label: It was listed with.
        reason: As the list says.
        list: The list and the line, `exclude.csv:3`.
    """

    path: str
    sha256: str
    split: str
    label: str
    reason: str
    list: str


def leave_out(listing: PhotoListing, files: Sequence[Path]) -> tuple[PhotoListing, tuple[ExcludedPhoto, ...]]:
    """Take the photos that lists name out of a listing. Nothing is moved or deleted.

    Args:
        listing: From a data source.
        files: CSV files with a header and the column `path`, and any of `EXCLUSION_COLUMNS`. A path is written as audits show it:
            relative to the listing's root, with `/`. Where a path stands in several splits, `split` says which is meant.

    Returns:
        The listing without them, with a note that counts them; and what was left out. A photo whose content is not the one that a list
        gives is left out all the same, and noted.

    Raises:
        DataError: Every problem at once: a list that cannot be read, a line without a path, a photo that is not there.
    """
    by_path: dict[str, list[PhotoRecord]] = {}
    for record in listing.photos:
        by_path.setdefault(photo_name(record.path, listing.root), []).append(record)
    for name in [*by_path]:
        by_path.setdefault(shown_name(name), by_path[name])  # as reports show it, where no photo has this name itself
    problems: list[str] = []
    out: dict[PhotoRecord, ExcludedPhoto] = {}
    for file in files:
        for place, row in _rows(file, problems):
            chosen = _chosen(by_path.get(row["path"], []), row.get("split") or "")
            if not chosen:
                problems.append(
                    f"{place}: no photo '{shown_name(row['path'])}' below {escaped(str(listing.root))}. Take the line out."
                )
            for record in chosen:
                out.setdefault(record, _excluded(record, row, place))
    if problems:
        raise DataError(bounded(problems))
    kept = tuple(record for record in listing.photos if record not in out)
    return replace(listing, photos=kept, notes=(*listing.notes, *_notes(out))), tuple(out.values())


def exclusions_csv(rows: Sequence[Mapping[str, str]]) -> str:
    """A list as text, in the form that `leave_out` reads."""
    return to_csv(rows, EXCLUSION_COLUMNS)


def _rows(file: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each line's place and values."""
    name = escaped(str(file))
    try:
        text = read_regular(expand_home(file)).decode("utf-8-sig", errors="surrogateescape")
    except OSError as exc:
        problems.append(f"data.exclude: {name} cannot be read ({one_line(exc)}). Check the path.")
        return
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if "path" not in (reader.fieldnames or ()):
        problems.append(f"{name}:1: no column 'path'. The first line has to be: {','.join(EXCLUSION_COLUMNS)}")
        return
    for row in reader:
        place = f"{name}:{reader.line_num}"
        if row["path"]:
            yield place, {key: from_cell(value or "") for key, value in row.items() if key is not None}
        else:
            problems.append(f"{place}: no path. Write one or take the line out.")


def _chosen(records: list[PhotoRecord], split: str) -> list[PhotoRecord]:
    return [record for record in records if record.split == split] if len(records) > 1 and split else records


def _excluded(record: PhotoRecord, row: Mapping[str, str], place: str) -> ExcludedPhoto:
    sha256 = row.get("sha256", "")
    return ExcludedPhoto(row["path"], sha256, record.split, record.label or "", row.get("reason", ""), place)


def _notes(out: Mapping[PhotoRecord, ExcludedPhoto]) -> Iterator[str]:
    if out:
        photos = "1 photo is" if len(out) == 1 else f"{len(out)} photos are"
        yield f"{photos} left out by data.exclude"
    for record, excluded in out.items():
        if excluded.sha256 and _has_changed(record.path, excluded.sha256):
            yield f"{excluded.list}: '{excluded.path}' has changed since it was listed, and is still left out"


def _has_changed(path: Path, sha256: str) -> bool:
    try:
        return photo_sha256(path) != sha256.lower()
    except DataError:
        return False  # it is left out: nothing depends on whether it can be read
