"""What people decided about photos, a line a decision, in a file that only grows; `data.decisions` names it."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from finetunekit.data.parallel import bounded
from finetunekit.data.tables import open_csv, table_text
from finetunekit.errors import DataError, RunFolderError
from finetunekit.system.files import append_line, file_lock, to_csv, write_whole
from finetunekit.system.formatting import escaped, one_line

Verdict = Literal["keep", "label", "leave out", "group", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
UNDO = "undo"
_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Decision:
    """A line of the file. Those of one number were made at once, about several photos.

    Attributes:
        number: From 1, in the order of the file; an `undo` names it.
        when: Time in UTC, as `2026-03-31T09:30:00Z`.
        who: Name that the person gave.
        path: Of the photo, as `photo_name` gives it; empty for `undo`.
        sha256: Of its file when it was decided; empty: whatever it holds.
        kind: `keep`, `label`, `leave out`, `group`, `unsure`, or `undo`.
        was: Its label when it was decided.
        now: The new label; the name of the group, empty for none; the number that is undone. Empty otherwise.
        why: What was said for it.
    """

    number: int
    when: str
    who: str
    path: str
    sha256: str
    kind: str
    was: str
    now: str
    why: str


DECISION_COLUMNS = tuple(field.name for field in fields(Decision))


@dataclass(frozen=True, slots=True)
class DecidedAbout:
    """A photo that something is being decided about: path, checksum and label, as `Decision` has them."""

    path: str
    sha256: str
    label: str


def read_decisions(path: Path) -> tuple[Decision, ...]:
    """Every line of a file of decisions, the undone ones and their undoing included.

    A last line that a crash cut off is left out. `path` and `kind` are needed; other columns may be missing where people wrote the file.

    Raises:
        DataError: Every problem at once: a kind there is not, a label without a name, an `undo` of what is not above it.
    """
    name = escaped(str(path))
    try:
        columns, read = open_csv(path, _without_torn_end(table_text(path)))
    except OSError as exc:
        raise DataError(f"data.decisions: {name} cannot be read ({one_line(exc)}). Check the path.") from exc
    missing = [column for column in ("path", "kind") if column not in columns]
    if missing:
        raise DataError(f"{name}:1: no column '{missing[0]}'. The first line has to be: {','.join(DECISION_COLUMNS)}")
    known = [column for column in DECISION_COLUMNS if column in columns]
    found: list[Decision] = []
    standing: set[str] = set()
    problems: list[str] = []
    for line, values in read(known):
        row = {column: "" if value is None else str(value) for column, value in zip(known, values, strict=True)}
        decision = _decision(row, found[-1].number if found else 0)
        if problem := _problem(decision, standing):
            problems.append(f"{name}:{line}: {problem}")
        else:
            found.append(decision)
            _note(decision, standing)
    if problems:
        raise DataError(bounded(problems))
    return tuple(found)


def in_force(decisions: Iterable[Decision]) -> tuple[Decision, ...]:
    """Decisions that were not undone, in order; the last one about a photo is the one that counts."""
    listed = tuple(decisions)
    undone = {decision.now for decision in listed if decision.kind == UNDO}
    return tuple(one for one in listed if one.kind != UNDO and str(one.number) not in undone)


class DecisionsFile:
    """A file of decisions that this process alone writes.

    Attributes:
        decisions: All of its lines.
    """

    def __init__(self, path: Path, decisions: Sequence[Decision]) -> None:
        """Go on with what was read from it."""
        self._path, self.decisions = path, list(decisions)
        self._standing: set[str] = set()
        for decision in decisions:
            _note(decision, self._standing)

    def add(self, kind: Verdict, photos: Sequence[DecidedAbout], *, who: str, now: str = "", why: str = "") -> int:
        """Write a decision down; it is on the disk when this returns.

        Args:
            kind: What was decided.
            photos: About which; one line each, all of one number.
            who: Decides.
            now: The label or the group.
            why: In words.

        Returns:
            Its number.

        Raises:
            DataError: If it is not a decision: a label or a kind is missing.
            RunFolderError: If it cannot be written; then it was not made.
        """
        number = self.next_number
        when = _now()
        lines = [Decision(number, when, who, p.path, p.sha256, kind, p.label, now, why) for p in photos]
        self._write(lines)
        return number

    def undo(self, number: int, *, who: str) -> None:
        """Write down that a decision does not hold any more.

        Raises:
            DataError: If there is no such decision, or it was undone before.
            RunFolderError: If it cannot be written.
        """
        self._write([Decision(self.next_number, _now(), who, "", "", UNDO, "", str(number), "")])

    @property
    def next_number(self) -> int:
        """Of the decision that comes next."""
        return self.decisions[-1].number + 1 if self.decisions else 1

    def _write(self, lines: Sequence[Decision]) -> None:
        if problem := next(filter(None, (_problem(line, self._standing) for line in lines)), None):
            raise DataError(problem)
        append_line(self._path, _as_csv(lines).partition("\n")[2])
        for line in lines:
            self.decisions.append(line)
            _note(line, self._standing)


@contextmanager
def open_decisions(path: Path) -> Iterator[DecisionsFile]:
    """Go on with a file of decisions, or begin one, as its only writer.

    A file that another program has saved in a form of its own, or whose last line a crash cut off, is first written as we write it.

    Raises:
        DataError: If what is there is no file of decisions.
        RunFolderError: If another process writes it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(path.with_name(f".{path.name}.lock"), timeout_s=_WAIT_S))
            decisions = read_decisions(path) if path.exists() else ()
            text = _as_csv(decisions)
            if not path.exists() or path.read_bytes() != text.encode(errors="surrogateescape"):
                write_whole(path, text)
        except TimeoutError as exc:
            raise RunFolderError(
                f"{path}: another review is writing it. End it, or name another file with --decisions."
            ) from exc
        except OSError as exc:
            raise RunFolderError(f"{path}: cannot be written ({exc.strerror or exc}).") from exc
        yield DecisionsFile(path, decisions)


def _as_csv(decisions: Sequence[Decision]) -> str:
    return to_csv([asdict(decision) for decision in decisions], DECISION_COLUMNS)


def _without_torn_end(text: str) -> str:
    """A text without a last record that a crash cut off: one inside of quotes, or without a line end and with too few cells."""
    end = position = quotes = 0
    for line in io.StringIO(text, newline="\n"):
        position += len(line)
        quotes += line.count('"')
        if quotes % 2 == 0 and line.endswith("\n"):
            end = position
    header, tail = (next(csv.reader(io.StringIO(part, newline="")), []) for part in (text, text[end:]))
    return text if quotes % 2 == 0 and len(tail) >= len(header) else text[:end]


def _decision(row: Mapping[str, str], above: int) -> Decision:
    """A line with the number that it has, or the next one; 0 where it is none that may follow `above`."""
    given = row.get("number") or str(above + 1)
    number = int(given) if given.isdecimal() and int(given) >= above else 0
    values: dict[str, Any] = {column: row.get(column, "") for column in DECISION_COLUMNS[1:]}
    return Decision(number, **values)


def _problem(decision: Decision, standing: Set[str]) -> str | None:
    """What is wrong with a line; `standing` are the numbers above it that were not undone."""
    if decision.number < 1:
        return "its number is none, or smaller than the one above. Numbers grow from line to line."
    if decision.kind == UNDO:
        return None if decision.now in standing else f"undoes '{escaped(decision.now)}', which is not a decision above."
    if decision.kind not in VERDICTS:
        return f"unknown kind '{escaped(decision.kind)}'. Allowed: {', '.join((*VERDICTS, UNDO))}."
    if not decision.path:
        return "no path. Write one or take the line out."
    if decision.kind == "label" and not (decision.now.strip() and decision.now.isprintable()):
        return "label needs the name of a class, in the column 'now'."
    return None


def _note(decision: Decision, standing: set[str]) -> None:
    if decision.kind == UNDO:
        standing.discard(decision.now)
    else:
        standing.add(str(decision.number))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
