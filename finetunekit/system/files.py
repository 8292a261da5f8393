"""Files written whole or not at all, locks that go with their process, and plain values as text."""

from __future__ import annotations

import contextlib
import csv
import errno
import functools
import io
import itertools
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetunekit.errors import RunFolderError

MOST_BYTES = 256 * 2**20
"""Of a file that is read into memory whole, unless its reader knows better."""


@contextmanager
def work_in(folder: str | None) -> Iterator[None]:
    """Work in a folder; where it is not known or gone, in the one that is. Modules are not imported from it.

    Afterwards the folder is the former one, unless that was deleted meanwhile, as a run is that was refused before it began.
    """
    if folder is None or not Path(folder).is_dir():
        yield
        return
    before = list(sys.path)
    sys.path[:] = [part or os.getcwd() for part in before]  # in a notebook '' stands for the working folder
    there = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        sys.path[:] = before
        if os.path.isdir(there):
            os.chdir(there)


class NotRegularError(OSError):
    """What a name stands for is a pipe, a socket or a device, which may have no end, or none that comes."""


def open_regular(path: Path, buffering: int = -1) -> Any:
    """Open a regular file for reading in binary; whatever files are opened by a name that a user or a stranger wrote are opened here.

    Args:
        path: A link is followed.
        buffering: As `open` takes it; 0: a raw stream.

    Raises:
        OSError: If it cannot be opened; `IsADirectoryError` for a folder, `NotRegularError` for what is neither: nothing is read, nothing
            waited for.
    """
    _check_regular(os.stat(path), path)  # asked before: opening a device can have effects of its own
    stream = open(path, "rb", buffering=buffering, opener=_opened_at_once)  # noqa: SIM115  # the caller closes it
    try:
        _check_regular(os.fstat(stream.fileno()), path)  # and after: another thing may have taken its place
    except OSError:
        stream.close()
        raise
    return stream


def _opened_at_once(path: str, flags: int) -> int:
    """A descriptor, without waiting for whoever writes into a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(errno.EINVAL, "it is no regular file", str(path))


def read_regular(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """All of a regular file, see `open_regular`.

    Raises:
        OSError: If it cannot be read or is larger than `most_bytes`.
    """
    with open_regular(path) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size  # as much memory is set aside as is asked for
        data: bytes = stream.read(min(size_bytes, most_bytes) + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes", str(path))
    return data


_STEM = 40
"""Letters of a file's name that the name of its partial copy has: with more, long names could not be written."""
_HARMFUL = re.compile("[\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""What may not stand in JSON that people read: C1 controls, marks that turn or hide text, halves of letters. C0 are escaped anyway."""
_FORMULA_STARTS = frozenset("=+-@\t\r'")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
LOCK = "run.lock"


_LOCK_TIMEOUT_S = 0.5  # a listing that asks whether the lock is free holds it for a moment


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file beside its place and rename it there, so that a reader sees the old content or the new, never a part.

    Raises:
        RunFolderError: If the folder cannot be written or the disk is full; what was there stays.
    """
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    with replacing(path) as partial:
        partial.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path`, with the same suffix, that is synced and renamed to it when the block ends well.

    Raises:
        RunFolderError: If the folder cannot be written, the disk is full, or what is there is no regular file: a device would be replaced
            by whoever may; what was there stays.
    """
    _check_name(path)
    partial: Path | None = None
    try:
        if path.exists():
            _check_regular(path.stat(), path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem[:_STEM]}-", suffix=f".partial{path.suffix}", dir=path.parent
        )
        os.close(handle)
        partial = Path(name)
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        open_to_others(partial, 0o666)
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as exc:
        raise RunFolderError(
            f"{path}: cannot be written ({exc.strerror or exc}). Free space or choose another folder with --out."
        ) from exc
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _check_name(path: Path) -> None:
    """Refuse a name that no file can have, such as one with a NUL."""
    try:
        is_name = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise RunFolderError(f"{str(path)!a}: no file can be called that.")


def sync_folder(folder: Path) -> None:
    """Have the disk hold what was renamed in a folder."""
    if os.name != "posix":  # Windows cannot open a folder for syncing; os.replace is all there is
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_line(path: Path, line: str) -> None:
    """Append one whole line in one write and sync it; a line cut off by a crash is the last one.

    Raises:
        RunFolderError: If the file cannot be written; what was written of the line is taken back.
    """
    data = line.encode(errors="surrogateescape")
    try:
        with path.open("ab", buffering=0) as stream:
            before = stream.tell()
            if stream.write(data) != len(data):
                stream.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(stream.fileno())
    except OSError as exc:
        raise RunFolderError(f"{path}: cannot be written ({exc.strerror or exc}).") from exc


def to_json(value: Any) -> str:
    """Indented JSON that ends in a newline, a list of numbers on one line; non-finite numbers are refused, since JSON has none.

    Letters that steer a terminal or turn text around, and bytes of names that are no UTF-8, are JSON escapes: the same values, read back.
    """
    text = "".join(_indented(value, "\n"))
    return _HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _indented(value: Any, end: str) -> Iterator[str]:
    """JSON of a value, every line but the first begun by `end`: a line feed and blanks."""
    if isinstance(value, Mapping) and value:
        start = "{"
        for key, inner in value.items():
            yield f"{start}{end}  {_one_line(key) if isinstance(key, str) else _one_line(_one_line(key))}: "
            yield from _indented(inner, end + "  ")
            start = ","
        yield f"{end}}}"
    elif isinstance(value, (list, tuple)) and not _NUMBERS.issuperset(map(type, value)):
        start = "["
        for inner in value:
            yield f"{start}{end}  "
            yield from _indented(inner, end + "  ")
            start = ","
        yield f"{end}]"
    else:
        yield _one_line(value)


def _jsonable(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON: {value!r}")


_NUMBERS = frozenset((int, float))
_one_line = functools.partial(json.dumps, ensure_ascii=False, allow_nan=False, default=_jsonable)


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV with a header and `\\n` line ends; floats as Python's shortest exact form; texts as `to_cell` writes them."""
    cells = itertools.chain([columns], ([row.get(column, "") for column in columns] for row in rows))
    return "".join(map(_csv_line, cells))


def _csv_line(values: Iterable[Any]) -> str:
    stream = io.StringIO()
    # a carriage return in a cell is put in quotes only where it ends lines as well
    csv.writer(stream, lineterminator="\r\n").writerow(map(to_cell, values))
    return stream.getvalue()[:-2] + "\n"


def read_csv(text: str) -> list[dict[str, str]]:
    """Rows of CSV that `to_csv` wrote, every text as it was.

    Args:
        text: Header and rows.

    Raises:
        ValueError: If a row has more or fewer cells than the header.
        csv.Error: If it is not CSV.
    """
    rows = read_cells(io.StringIO(text, newline="\n"))
    header = next(rows, [])
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_cells(lines: Iterable[str]) -> Iterator[list[str]]:
    """Rows of CSV that `to_csv` wrote, the header first, one after the other.

    Args:
        lines: Of the file, each with its line end, which is a line feed.

    Raises:
        csv.Error: If it is not CSV.
    """
    has_quotes = False

    def noted() -> Iterator[str]:
        nonlocal has_quotes
        for line in lines:
            has_quotes = has_quotes or "'" in line
            yield line

    for row in csv.reader(noted()):
        if row:
            yield [from_cell(cell) for cell in row] if has_quotes else row
        has_quotes = False


def to_cell(value: Any) -> Any:
    """A value as a cell that no spreadsheet takes for a formula: a text that could be one begins with an apostrophe more.

    Source: OWASP, CSV Injection: `=`, `+`, `-`, `@`, tab and carriage return begin formulas.
    """
    if not isinstance(value, str) or not value or value[0] not in _FORMULA_STARTS or _NUMBER.fullmatch(value):
        return value
    return f"'{value}" if value[0] != "'" or value[1:2] in _FORMULA_STARTS else value


def from_cell(text: str) -> str:
    """What `to_cell` made a cell of."""
    return text[1:] if text[:1] == "'" and text[1:2] in _FORMULA_STARTS else text


def sweep(path: Path) -> None:
    """Remove what writes that a kill cut off left in a run folder. Hold its lock."""
    for partial in path.rglob(".*.partial*"):
        if partial.is_file():
            partial.unlink(missing_ok=True)


def open_to_others(path: Path, mode: int) -> None:
    """Give what `tempfile` made for its owner alone the mode that the user's umask allows."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


@contextmanager
def locked(path: Path, *, lock: str = LOCK, job: str = "writing this run") -> Iterator[None]:
    """Hold a folder for one writer; the operating system drops the lock when the process ends, a crash included.

    Args:
        path: A run folder, or another one that is written by one process at a time; made where it is not there.
        lock: Name of the file in it that stands for it.
        job: What another process is doing while it holds the folder, as the error says it.

    Raises:
        RunFolderError: If another process holds it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(path / lock, timeout_s=_LOCK_TIMEOUT_S))
        except TimeoutError as exc:
            raise RunFolderError(f"{path}: another process is {job}. Wait for it, or use another folder.") from exc
        except OSError as exc:
            raise RunFolderError(
                f"{path}: cannot be written ({exc.strerror or exc}). Make it writable, or use another folder."
            ) from exc
        yield


@contextmanager
def file_lock(path: Path, *, timeout_s: float, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file; the operating system drops the lock when the process ends, a crash included.

    Args:
        path: The file; it and its folder are made where they are not there.
        timeout_s: How long to wait for another process that holds it.
        on_wait: Called once if another process holds it.

    Raises:
        TimeoutError: If another process still holds it.
        OSError: If the file cannot be written, or its file system has no locks.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0 if on_wait else timeout_s)
        except filelock.Timeout:
            if on_wait is None:
                raise
            on_wait()
            lock.acquire(timeout=timeout_s)
    except NotImplementedError as exc:
        raise OSError(errno.ENOTSUP, "its file system has no locks", str(path)) from exc
    try:
        yield
    finally:
        lock.release()
