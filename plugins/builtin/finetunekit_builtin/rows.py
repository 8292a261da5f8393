"""Rows of a table → photos, with everything that is wrong counted by kind and named by example."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from finetunekit import (
    HEIC_SUFFIXES,
    DataError,
    PhotoRecord,
    from_windows,
    heic_note,
    photo_suffixes,
    same_form,
    same_letters,
    some_names,
)
from finetunekit_builtin.names import plain, quoted
from finetunekit_builtin.splits import split_called

#: Kinds of letters that no label has: control characters, line and paragraph separators, bytes that are no UTF-8, letters not assigned.
_NO_LABEL = frozenset({"Cc", "Zl", "Zp", "Cs", "Cn"})
#: Between labels where a cell holds several.
SEPARATORS = re.compile(r"\s*[;|,+/]\s*")
CASES = "\0"
"""Stands for the examples in a kind of problem; no name of a file or folder holds it."""
_ENDINGS = tuple(ending for plain in (".jpg", ".jpeg", ".png", ".webp", ".tif") for ending in (plain, plain.upper()))
_Fold: TypeAlias = Callable[[str], str]
ONE_LABEL = "A photo has one label here: keep the one to be learnt."


@dataclass(frozen=True, slots=True)
class RowSettings:
    """How rows are taken.

    Attributes:
        folder: File names are relative to it.
        folders: Folders in it that hold the photos; with them, file names are relative to each.
        suffix: What file names lack at their end.
        allow_outside: Whether files may lie elsewhere.
        skip_missing: Whether rows of missing files are left out.
    """

    folder: Path
    allow_outside: bool = False
    skip_missing: bool = False
    folders: tuple[str, ...] = ()
    suffix: str = ""


@dataclass
class Rows:
    """Collects the photos of a table row by row.

    Attributes:
        table: The file, for messages.
        settings: How rows are taken.
        photos: What was taken.
        names: File name of each, as in the table.
    """

    table: Path
    settings: RowSettings
    photos: list[PhotoRecord] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)
    _problems: dict[str, list[str]] = field(default_factory=dict)
    _missing: list[str] = field(default_factory=list)
    _others: list[str] = field(default_factory=list)
    _heic: int = 0
    _repeated: int = 0
    _other_forms: int = 0
    _other_case: int = 0
    _windows: list[str] = field(default_factory=list)
    _listed: dict[tuple[str, _Fold], dict[str, list[str]]] = field(default_factory=dict)
    _suffixes: frozenset[str] = field(default_factory=photo_suffixes)

    def add(self, line: int, name: Any, label: Any, split: Any, group: Any) -> None:
        """Take one row; what is wrong with it is noted for `check`."""
        path = self._place(line, name)
        if path is None or not self._is_photo(path):
            return
        text, where, group = (self._decoded(_text(value)) for value in (label, split, group))
        called = None if where is None else split_called(where)
        if isinstance(label, list | tuple | dict):
            self._note(f"rows with several labels{CASES}. {ONE_LABEL}", f"{name} (line {line})")
        elif called is None:
            kind = f"rows with an unknown split{CASES}. Allowed: train, valid, test, display."
            self._note(
                f"rows without a split{CASES}. Name one." if where is None else kind, f"{where or name} (line {line})"
            )
        elif text is None and called != "display":
            self._note(f"rows without a label{CASES}. Only display photos need none.", f"{name} (line {line})")
        elif text is not None and any(unicodedata.category(letter) in _NO_LABEL for letter in text):
            self._note(
                f"labels that are no plain text{CASES}. Save the table as UTF-8, one label per line.",
                f"{text} (line {line})",
            )
        else:
            self._take(line, str(name), PhotoRecord(Path(path), text, called, group))

    def _decoded(self, text: str | None) -> str | None:
        if text is None or (read := from_windows(text)) == text:
            return text
        self._windows.append(read)
        return read

    def check(self) -> None:
        """Raise what was noted.

        Raises:
            DataError: One line a kind of problem, with its count and the first three.
        """
        self._check_joined_labels()
        problems = [
            f"{plain(self.table)}: {kind.replace(CASES, f' ({len(cases)}): {some_names(cases)}')}"
            for kind, cases in self._problems.items()
        ]
        if self._missing and not self.settings.skip_missing:
            problems.append(
                f"{plain(self.table)}: {len(self._missing)} of {len(self._missing) + len(self.photos)} files are missing:"
                f" {some_names(self._missing)}. Names are relative to {plain(self.settings.folder)}: {self._advice()}"
            )
        if not problems and not self.photos:
            problems.append(f"{plain(self.table)}: names no photo. {' '.join(self.notes())}".strip())
        if problems:
            raise DataError(problems)

    def _advice(self) -> str:
        """What to set so that the files that are not there would be found."""
        found = advice(self.settings.folder, self._missing)
        if found:
            return f"set data.options.{found} (without a preset: --option '{found.replace(': ', '=', 1)}')."
        return (
            "set data.options.photos to another folder (--option photos=DIR without a preset), or skip_missing: true."
        )

    def notes(self) -> tuple[str, ...]:
        """What was passed over."""
        notes = []
        if self._missing:
            notes.append(f"rows left out, their files are missing: {len(self._missing)} ({some_names(self._missing)})")
        if self._heic:
            notes.append(heic_note(self._heic))
        if self._others:
            notes.append(f"rows left out, no photos: {len(self._others)} ({some_names(self._others)})")
        if self._other_forms:
            notes.append(f"file names in another Unicode form (NFC, NFD) than in the table: {self._other_forms}")
        if self._other_case:
            notes.append(f"file names in other upper and lower case than in the table: {self._other_case}")
        if self._windows:
            notes.append(
                f"cells that are not UTF-8, read as Windows-1252: {len(self._windows)} ({some_names(self._windows)})"
            )
        if self._repeated:
            notes.append(f"rows that repeat another one, taken once: {self._repeated}")
        return tuple(notes)

    def _place(self, line: int, name: Any) -> str | None:
        """The file that a row means; None if it means none that may be used."""
        if not isinstance(name, str) or not name:
            kind = f"rows without one file name{CASES}. One row names one photo."
            self._note(kind, f"line {line}")
            return None
        folder = str(self.settings.folder)
        is_windows = "\\" in name and not os.path.lexists(os.path.join(folder, name))
        inside = os.path.normpath(name.replace("\\", "/") if is_windows else name)
        is_outside = (
            os.path.isabs(inside) or inside.split(os.sep)[0] == os.pardir or re.match(r"[A-Za-z]:|\w+://", name)
        )
        if is_outside and not self.settings.allow_outside:
            self._note(
                f"file names that lead out of {plain(folder)}{CASES}. Name files in it, or set allow_outside: true.",
                f"{name} (line {line})",
            )
            return None
        found = [place for inner in self.settings.folders or ("",) if (place := self._found(folder, inner, inside))]
        if not found:
            self._missing.append(name)
        elif len(found) > 1:
            kind = f"file names that several of data.options.folders have{CASES}. Write the folder before each name."
            self._note(kind, f"{name} (line {line})")
            return None
        return found[0] if found else None

    def _found(self, folder: str, inner: str, inside: str) -> str | None:
        """The file of this name; else the only one whose name has another Unicode form or case, or blanks around it."""
        folder = os.path.join(folder, inner) if inner else folder
        ending = "" if os.path.splitext(inside)[1].lower() in self._suffixes else self.settings.suffix
        names = [f"{name}{ending}" for name in dict.fromkeys((inside, inside.strip(), from_windows(inside.strip())))]
        for name in names:
            if os.path.isfile(path := os.path.join(folder, name)):
                return path
        for fold in (same_form, same_letters):
            other = self._other_form(folder, names[-1].split(os.sep), fold)
            if other is not None and os.path.isfile(other):
                self._other_forms += fold is same_form
                self._other_case += fold is same_letters
                return other
        return None

    def _other_form(self, folder: str, parts: Sequence[str], fold: _Fold) -> str | None:
        for part in parts:
            if not os.path.lexists(os.path.join(folder, part)):
                names = self._names_in(folder, fold).get(fold(part), [])
                if len(names) != 1:
                    return None
                folder = os.path.join(folder, names[0])
            else:
                folder = os.path.join(folder, part)
        return folder

    def _names_in(self, folder: str, fold: _Fold) -> dict[str, list[str]]:
        """Folded name → names in a folder."""
        if (folder, fold) not in self._listed:
            names = self._listed.setdefault((folder, fold), {})
            with contextlib.suppress(OSError):  # a folder that is not there holds no name
                for name in os.listdir(folder):
                    names.setdefault(fold(name), []).append(name)
        return self._listed[folder, fold]

    def _is_photo(self, path: str) -> bool:
        suffix = os.path.splitext(path)[1].lower()
        if suffix in self._suffixes:
            return True
        if suffix in HEIC_SUFFIXES:
            self._heic += 1
        else:
            self._others.append(path)
        return False

    def _take(self, line: int, name: str, photo: PhotoRecord) -> None:
        known = self._seen.setdefault(os.path.normpath(photo.path), len(self.photos))
        if known == len(self.photos):
            self.photos.append(photo)
            self.names.append(name)
            return
        first = self.photos[known]
        if first.label != photo.label and None not in (first.label, photo.label):
            case = f"{name}: {first.label} and {photo.label} (line {line})"
            self._note(f"photos with more than one label{CASES}. {ONE_LABEL}", case)
        elif first.split != photo.split:
            case = f"{name}: {first.split} and {photo.split} (line {line})"
            self._note(f"photos in more than one split{CASES}. Keep one row of each.", case)
        else:
            self._repeated += 1

    def _check_joined_labels(self) -> None:
        """`cat;dog` is two labels where `cat` and `dog` are labels as well."""
        labels = {photo.label for photo in self.photos if photo.label}
        joined = [label for label in sorted(labels) if len(parts := SEPARATORS.split(label)) > 1 and {*parts} <= labels]
        for label in joined:
            self._note(f"labels that are several{CASES}. {ONE_LABEL}", label)

    def _note(self, kind: str, case: str) -> None:
        self._problems.setdefault(kind, []).append(case)


def is_photo_name(name: str) -> bool:
    """Whether a name ends as photos do."""
    return os.path.splitext(name.strip())[1].lower() in photo_suffixes()


def advice(folder: Path, missing: Sequence[str]) -> str:
    """The option and its value with which most of these names would be files: their suffix, or the folders that they lie in."""
    tried = missing[:50]
    inner = sorted(entry.name for entry in itertools.islice(os.scandir(folder), 1000) if entry.is_dir())
    for ending in _ENDINGS:
        if sum(os.path.isfile(folder / f"{name}{ending}") for name in tried) > len(tried) / 2:
            return f"suffix: {ending}"
    held = {name: [part for part in inner[:100] if os.path.isfile(folder / part / name)] for name in tried}
    if sum(map(bool, held.values())) > len(tried) / 2:
        parts = sorted({part for parts in held.values() for part in parts})
        return f"folders: [{', '.join(map(quoted, parts))}]"
    return ""


def _text(value: Any) -> str | None:
    """A cell as text: whole numbers without a decimal point, NaN and blanks as nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    return text.strip(" \t\r\n") or None if text.strip() else None
