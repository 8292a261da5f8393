"""Lists of photos to leave out, each with its reason: `data.exclude` names them, `data audit --fix` writes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from finetunekit.data.index import photo_name, shown_name
from finetunekit.data.known_photos import photo_sha256
from finetunekit.data.parallel import bounded
from finetunekit.data.photo_file import photo_suffixes
from finetunekit.data.tables import (
    JSONL_SUFFIXES,
    PARQUET_SUFFIXES,
    PhotoTable,
    from_windows,
    open_csv,
    open_table,
    same_form,
    same_letters,
    table_text,
)
from finetunekit.errors import DataError
from finetunekit.system.files import to_csv
from finetunekit.system.formatting import counted, escaped, one_line
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
        files: Tables with the column `path`, and any of `EXCLUSION_COLUMNS`, read as leniently as tables of photos; or plain lists of
            names. A path is written as audits show it: relative to the listing's root, with `/`. Where a path stands in several
            splits, `split` says which is meant.

    Returns:
        The listing without them, with a note that counts them; and what was left out. A photo whose content is not the one that a list
        gives is left out all the same, and noted.

    Raises:
        DataError: Every problem at once: a list that cannot be read, a line without a path, a photo that is not there.
    """
    photos = PhotosByName(listing)
    problems: list[str] = []
    out: dict[PhotoRecord, ExcludedPhoto] = {}
    for file in files:
        for place, row in _rows(file, problems):
            chosen = _chosen(photos.called(row["path"]), row.get("split") or "")
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


class PhotosByName:
    """A listing's photos by name: as it is, as reports show it, else the only one that differs in Unicode form, or in case, alone."""

    def __init__(self, listing: PhotoListing) -> None:
        self._root = listing.root
        self._by_name: dict[str, list[PhotoRecord]] = {}
        for record in listing.photos:
            self._by_name.setdefault(photo_name(record.path, listing.root), []).append(record)
        self._folded: dict[Callable[[str], str], dict[str, list[str]]] = {}
        for fold in (shown_name, same_form, same_letters):
            names = self._folded.setdefault(fold, {})
            for name in self._by_name:
                names.setdefault(fold(name), []).append(name)

    def called(self, name: str) -> list[PhotoRecord]:
        """The photos that a name in a list means."""
        for written in dict.fromkeys((name, self._inside(name), self._inside(from_windows(name)))):
            if written in self._by_name:
                return self._by_name[written]
            for fold, names in self._folded.items():
                meant = names.get(written if fold is shown_name else fold(written), [])
                if len(meant) == 1:
                    return self._by_name[meant[0]]
        return []

    def _inside(self, name: str) -> str:
        """Relative to the root, with `/`, whichever way it is written."""
        path = os.path.normpath(name.strip().replace("\\", "/"))
        return os.path.relpath(path, self._root) if os.path.isabs(path) else path


def _rows(file: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each line's place and values, by `EXCLUSION_COLUMNS`; what is wrong with a list is noted."""
    name = escaped(str(file))
    try:
        table = _open_list(expand_home(file))
        columns = _columns(table)
        for line, values in table.read(list(columns.values())):
            row = {role: "" if value is None else str(value) for role, value in zip(columns, values, strict=True)}
            if row["path"]:
                yield f"{name}:{line}", row
            else:
                problems.append(f"{name}:{line}: no path. Write one or take the line out.")
    except OSError as exc:
        problems.append(f"data.exclude: {name} cannot be read ({one_line(exc)}). Check the path.")
    except DataError as exc:
        problems += exc.problems


def _open_list(file: Path) -> PhotoTable:
    """A table of any kind; a file of any other ending is CSV. Without a header it is a list of names."""
    if file.suffix.lower() in (*JSONL_SUFFIXES, *PARQUET_SUFFIXES):
        return open_table(file)
    text = table_text(file)
    columns, read = open_csv(file, text)
    is_headless = any(Path(column).suffix.lower() in photo_suffixes() for column in columns)
    return PhotoTable(file, *(open_csv(file, text, has_header=False) if is_headless else (columns, read)))


def _columns(table: PhotoTable) -> dict[str, str]:
    """Key of `EXCLUSION_COLUMNS` → the column of the list that holds it.

    Raises:
        DataError: If none names photos.
    """
    if table.columns[0] == "1":
        return {"path": "1"}
    path = "path" if "path" in table.columns else table.find("file")
    if path is None:
        raise DataError(
            f"{escaped(str(table.path))}:1: no column 'path'. The first line has to be: {','.join(EXCLUSION_COLUMNS)}"
        )
    return {"path": path, **{name: name for name in EXCLUSION_COLUMNS[1:] if name in table.columns}}


def _chosen(records: list[PhotoRecord], split: str) -> list[PhotoRecord]:
    return [record for record in records if record.split == split] if len(records) > 1 and split else records


def _excluded(record: PhotoRecord, row: Mapping[str, str], place: str) -> ExcludedPhoto:
    sha256 = row.get("sha256", "")
    return ExcludedPhoto(row["path"], sha256, record.split, record.label or "", row.get("reason", ""), place)


def _notes(out: Mapping[PhotoRecord, ExcludedPhoto]) -> Iterator[str]:
    if out:
        yield f"{counted(len(out), 'photo is', 'photos are')} left out by data.exclude"
    for record, excluded in out.items():
        if excluded.sha256 and has_changed(record.path, excluded.sha256):
            yield f"{excluded.list}: '{excluded.path}' has changed since it was listed, and is still left out"


def has_changed(path: Path, sha256: str) -> bool:
    """Whether a file holds something else than what had this checksum; not where it cannot be read."""
    try:
        return photo_sha256(path) != sha256.lower()
    except DataError:
        return False  # it is left out: nothing depends on whether it can be read
