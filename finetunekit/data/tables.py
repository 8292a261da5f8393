"""Tables of photos: CSV, JSON Lines and Parquet read as rows of plain values, and columns found by role.

CSV may be separated by commas, semicolons, tabs or bars, say so in a first line `sep=;` as spreadsheets do, begin with a byte order mark,
end its lines any way or with separators more, have no header, and quote as RFC 4180 says. It is UTF-8, or UTF-16 with a byte order mark;
bytes that are no UTF-8 are kept as `os.fsdecode` keeps them, since names of files may have them; `from_windows` reads them elsewhere.
"""

from __future__ import annotations

import codecs
import csv
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from finetunekit.errors import DataError, did_you_mean
from finetunekit.system.files import from_cell, open_regular
from finetunekit.system.formatting import escaped, one_line

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
JSONL_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
TABLE_SUFFIXES = (*CSV_SUFFIXES, *JSONL_SUFFIXES, *PARQUET_SUFFIXES)
LARGEST_TABLE_BYTES = 256 * 2**20
"""Of the file; of the columns that are read, for Parquet. 100,000 photos take about 10 MB as CSV."""
MOST_ROWS = 5_000_000
PARQUET_S = 120
#: Role → names of its column, in any case, with spaces and hyphens for underscores.
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "file": ("file_name", "filename", "file", "file_path", "filepath", "path", "image", "image_path", "image_file",
             "image_name", "photo"),
    "label": ("label", "labels", "class", "class_name", "category", "species"),
    "split": ("split", "subset", "partition"),
    "group": ("group", "group_id", "cluster", "cluster_id"),
    "fold": ("fold",),
}  # fmt: skip

Row: TypeAlias = tuple[int, tuple[Any, ...]]
_Reader: TypeAlias = Callable[[Sequence[str]], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class PhotoTable:
    """A table whose header has been read.

    Attributes:
        path: The file.
        columns: Names of its columns, in order.
        read: Rows of the named columns: the line (from 1, the header's line counted) and the values; None where there is none.
    """

    path: Path
    columns: tuple[str, ...]
    read: _Reader

    def find(self, role: str, asked: str | None = None, *, is_needed: bool = False) -> str | None:
        """The column that plays a role.

        Args:
            role: Key of `COLUMN_NAMES`.
            asked: The column as the user names it; else it is found by its name.
            is_needed: Whether it is an error that there is none.

        Raises:
            DataError: If the named column is not there, several could be meant, or a needed one is missing.
        """
        name = escaped(str(self.path))
        if asked is not None:
            if asked not in self.columns:
                raise DataError(
                    f"{name}: no column '{escaped(asked)}'.{did_you_mean(escaped(asked), map(escaped, self.columns))}"
                )
            return asked
        found = [column for column in self.columns if _folded(column) in COLUMN_NAMES[role]]
        if len(found) > 1:
            listed = ", ".join(f"'{escaped(column)}'" for column in found)
            raise DataError(f"{name}: columns {listed} could each be the {role}. Say which: {role}_column.")
        if not found and is_needed:
            known = ", ".join(COLUMN_NAMES[role][:4])
            columns = ", ".join(escaped(column) for column in self.columns[:12])
            raise DataError(f"{name}: no {role} column ({known}, …) among: {columns}. Say which it is: {role}_column.")
        return found[0] if found else None


def open_table(path: Path, *, has_header: bool = True) -> PhotoTable:
    """Read a table's header; what kind of table it is, its suffix says.

    Args:
        path: The file.
        has_header: Whether the first line of CSV names the columns; else they are called `1`, `2`, ….

    Raises:
        DataError: If it cannot be read, is too large or broken, has no header or two columns of one name, or is Parquet and pyarrow
            is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise DataError(f"{escaped(str(path))}: is not a table. Allowed: {', '.join(TABLE_SUFFIXES)}.")
    try:
        if suffix in PARQUET_SUFFIXES:
            columns, read = _open_parquet(path)
        elif suffix in JSONL_SUFFIXES:
            columns, read = _open_jsonl(path, table_text(path))
        else:
            columns, read = open_csv(path, table_text(path), has_header=has_header)
    except OSError as exc:
        raise DataError(f"{escaped(str(path))}: cannot be read ({exc.strerror or exc}).") from exc
    twice = sorted({escaped(column) for column in columns if columns.count(column) > 1})
    if twice:
        raise DataError(f"{escaped(str(path))}: two columns are called '{twice[0]}'. Rename one.")
    return PhotoTable(path, columns, read)


def from_windows(text: str) -> str:
    """A text in which bytes that are no UTF-8 are read as Windows-1252; as it is where they are none of that either."""
    if text.isascii() or not any("\udc80" <= letter <= "\udcff" for letter in text):
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("cp1252")
    except UnicodeError:
        return text


def same_form(name: str) -> str:
    """What names have in common that differ in their Unicode form (NFC, NFD) alone."""
    return unicodedata.normalize("NFC", name)


def same_letters(name: str) -> str:
    """What names have in common that differ in upper and lower case as well."""
    return same_form(same_form(name).casefold())


def _folded(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip().lower())


def table_text(path: Path) -> str:
    """The text of a table: UTF-8, bytes that are none kept; or UTF-16 where a byte order mark says so.

    Raises:
        DataError: If it is too large.
        OSError: If it cannot be read.
    """
    with open_regular(path) as stream:
        is_large = os.fstat(stream.fileno()).st_size > LARGEST_TABLE_BYTES
        data = b"" if is_large else stream.read()
    if is_large:
        raise DataError(f"{escaped(str(path))}: is larger than {LARGEST_TABLE_BYTES // 2**20} MiB. Split it.")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="surrogateescape")


# ---- CSV -------------------------------------------------------------------------------------------------------------------------


def open_csv(path: Path, text: str, *, has_header: bool = True) -> tuple[tuple[str, ...], _Reader]:
    """Columns of a CSV text, and a reader of its rows; `path` is for messages, `has_header` as `open_table` has it.

    Raises:
        DataError: If it is empty.
    """
    text, delimiter = _without_mark(text)

    def lines() -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            for number, fields in enumerate(reader):
                if number > MOST_ROWS:
                    raise _broken(path, None, f"has more than {MOST_ROWS:,} rows")
                if any(fields):
                    yield reader.line_num, fields
        except csv.Error as exc:
            raise _broken(path, reader.line_num, one_line(exc)) from exc

    first = [from_windows(from_cell(field.strip())) for _, row in _first(lines()) for field in row]
    while first and not first[-1]:  # separators at the end of a line
        first.pop()
    columns = tuple(first) if has_header else tuple(str(number) for number in range(1, len(first) + 1))
    if not columns:
        raise _broken(path, None, "is empty; its first line must name its columns")

    def read(chosen: Sequence[str]) -> Iterator[Row]:
        places = [columns.index(column) for column in chosen]
        rows = lines()
        if has_header:
            next(rows)
        for line, fields in rows:
            if len(fields) < len(columns) or any(field.strip() for field in fields[len(columns) :]):
                expected = f"the header has {len(columns)}" if has_header else f"the first line has {len(columns)}"
                raise _broken(path, line, f"{len(fields)} fields where {expected}")
            yield line, tuple(from_cell(fields[place]) if fields[place].strip() else None for place in places)

    return columns, read


def _first(rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    for row in rows:
        yield row
        return


def _without_mark(text: str) -> tuple[str, str]:
    """The text without the line `sep=;` that spreadsheets write first, and the separator that it names.

    Without that line, the separator is the one that cuts the header into most columns; a comma where none does. Line numbers stay.
    """
    if mark := re.match(r"sep=(.)[ \t,;]*(?=\r|\n|$)", text, re.IGNORECASE):
        return text[mark.end() :], mark[1]
    header = re.sub(r'"[^"]*"', "", text.lstrip()[:10_000].splitlines()[0] if text.strip() else "")
    return text, max((",", ";", "\t", "|"), key=header.count)


# ---- JSON Lines ------------------------------------------------------------------------------------------------------------------


def _open_jsonl(path: Path, text: str) -> tuple[tuple[str, ...], _Reader]:
    rows: list[tuple[int, dict[str, Any]]] = []
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        if len(rows) >= MOST_ROWS:
            raise _broken(path, None, f"has more than {MOST_ROWS:,} rows")
        rows.append((line, _parse_object(path, line, content)))
    columns = tuple(dict.fromkeys(key for _, row in rows for key in row))
    if not columns:
        raise _broken(path, None, "is empty; each line must be a JSON object")

    def read(chosen: Sequence[str]) -> Iterator[Row]:
        for line, row in rows:
            yield line, tuple(row.get(column) for column in chosen)

    return columns, read


def _parse_object(path: Path, line: int, content: str) -> dict[str, Any]:
    try:
        row = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise _broken(path, line, f"is not JSON ({one_line(exc)})") from exc
    if not isinstance(row, dict):
        raise _broken(path, line, "is not a JSON object")
    return row


# ---- Parquet ---------------------------------------------------------------------------------------------------------------------


def _open_parquet(path: Path) -> tuple[tuple[str, ...], _Reader]:
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError(f"{escaped(str(path))}: Parquet needs pyarrow: pip install 'finetunekit[table]'")
    columns = tuple(json.loads(_parquet_lines(path, ())[0]))

    def read(chosen: Sequence[str]) -> Iterator[Row]:
        for number, line in enumerate(_parquet_lines(path, chosen)[1:], start=2):
            yield number, tuple(json.loads(line))

    return columns, read


def _parquet_lines(path: Path, columns: Sequence[str]) -> list[str]:
    """Read in a process of its own: a broken file can crash pyarrow."""
    with open_regular(path):
        pass  # what the system says against it is said here
    program = Path(__file__).with_name("parquet_rows.py")
    limits = (str(MOST_ROWS), str(LARGEST_TABLE_BYTES))
    command = [sys.executable, "-P", str(program), str(path.absolute()), *limits, *columns]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, encoding="utf-8", errors="replace", timeout=PARQUET_S
        )
    except subprocess.TimeoutExpired as exc:
        raise _broken(path, None, f"takes longer than {PARQUET_S} s to read") from exc
    except ValueError as exc:  # a column name that no command line can hold
        raise _broken(path, None, one_line(exc)) from exc
    if done.returncode not in (0, 3) or (done.returncode == 0 and not done.stdout):
        raise _broken(path, None, f"crashes pyarrow (exit status {done.returncode})")
    if done.returncode == 3:
        raise _broken(path, None, escaped(done.stderr.strip().split("\n")[-1]))
    return done.stdout.splitlines()


def _broken(path: Path, line: int | None, cause: str) -> DataError:
    where = escaped(str(path)) + ("" if line is None else f":{line}")
    return DataError(f"{where}: {cause}. Mend the table.")
