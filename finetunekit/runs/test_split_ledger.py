"""How often a test split has been opened: a ledger outside every run folder, keyed by the photos themselves.

One line an opening in `<state folder>/openings/<content key>.jsonl`, appended whole and synced under a lock. Deleting
runs does not reset it. A line that a crash cut off still counts as an opening: somebody was about to look.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from finetunekit.errors import RunFolderError
from finetunekit.runs.config_diff import config_key
from finetunekit.system.files import file_lock, read_regular
from finetunekit.system.user_dirs import STATE_VARIABLE, state_dir

__all__ = [
    "Openings",
    "config_key",
    "ledger_path",
    "opened_sentence",
    "read_openings",
    "record_opening",
]

LOCK_TIMEOUT_S = 10.0
"""An append takes milliseconds; whoever holds the lock longer is stuck."""


@dataclass(frozen=True, slots=True)
class Openings:
    """How often one test split has been scored.

    Attributes:
        openings: Runs whose label-dependent test score was computed, damaged lines included.
        configs: Distinct configurations among them; at least 1 where there is an opening.
        first: When the first was, ISO 8601, UTC; None where there is none.
        last: When the last was.
        damaged: Lines that cannot be read (a crash cut them off); counted in `openings`.
    """

    openings: int
    configs: int
    first: str | None
    last: str | None
    damaged: int = 0


def record_opening(
    content_key: str, config_key: str, *, name: str, run_path: Path, when: datetime | None = None
) -> Openings:
    """Write one opening into the ledger. Call it right before test labels meet test predictions.

    A run that records again (resumed, or scored once more) is still the same opening: same photos, same network.

    Args:
        content_key: Of the test split, 64 hexadecimal digits (`PhotoIndex.content_key`).
        config_key: See `config_key`.
        name: Of the run's configuration, for people who read the file.
        run_path: Folder of the run.
        when: Default: now. Aware; kept in UTC.

    Returns:
        All openings of this split so far, this one included.

    Raises:
        RunFolderError: If the ledger cannot be locked or written; nothing of the run depends on it.
        ValueError: If `content_key` is not 64 hexadecimal digits.
    """
    path = ledger_path(content_key)
    moment = (when or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
    entry = {"when": moment, "config": config_key, "name": name, "run": str(run_path.resolve())}
    with _locked(path):
        entries, _ = _read(path)
        if not any((old["config"], old["run"]) == (entry["config"], entry["run"]) for old in entries):
            _append(path, json.dumps(entry))
        return _count(path)


def read_openings(content_key: str) -> Openings:
    """Openings of a test split so far; none is not an error.

    Raises:
        RunFolderError: If the ledger is there and cannot be read.
        ValueError: If `content_key` is not 64 hexadecimal digits.
    """
    try:
        return _count(ledger_path(content_key))
    except OSError as exc:
        raise _unusable(ledger_path(content_key), "read", exc) from exc


def ledger_path(content_key: str) -> Path:
    """The file that holds one test split's openings.

    Raises:
        ValueError: If `content_key` is not 64 hexadecimal digits.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", content_key):
        raise ValueError(f"a content key has 64 hexadecimal digits. Received: {content_key!r}")
    return state_dir() / "openings" / f"{content_key}.jsonl"


def opened_sentence(openings: Openings) -> str:
    """`This test split has now been opened 7 times by 4 configurations.`"""
    times = "once" if openings.openings == 1 else f"{openings.openings:,} times"
    configs = "1 configuration" if openings.configs == 1 else f"{openings.configs:,} configurations"
    return f"This test split has now been opened {times} by {configs}."


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        with file_lock(path.with_suffix(".lock"), timeout_s=LOCK_TIMEOUT_S):
            yield
    except TimeoutError as exc:
        raise RunFolderError(
            f"{path}: another process has held this ledger of test split openings for {LOCK_TIMEOUT_S:g} s;"
            " this opening is not recorded."
        ) from exc
    except OSError as exc:
        raise _unusable(path, "written", exc) from exc


def _unusable(path: Path, verb: str, exc: Exception) -> RunFolderError:
    reason = (exc.strerror if isinstance(exc, OSError) else None) or exc
    return RunFolderError(
        f"{path}: the ledger of test split openings cannot be {verb} ({reason})."
        f" Make the folder writable, or name another in {STATE_VARIABLE}."
    )


def _append(path: Path, line: str) -> None:
    is_new = not path.exists()
    before = b"" if is_new else read_regular(path)
    # A torn line is closed first, so that this one does not become part of it.
    data = (b"" if not before or before.endswith(b"\n") else b"\n") + f"{line}\n".encode()
    with path.open("ab", buffering=0) as stream:
        written = stream.write(data)
        os.fsync(stream.fileno())
    if written != len(data):
        raise OSError(0, "the disk is full")
    if is_new and os.name == "posix":
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(path: Path) -> tuple[list[dict[str, str]], int]:
    """Whole entries in order, and the number of lines that are none."""
    if not path.exists():
        return [], 0
    lines = [line for line in read_regular(path).split(b"\n") if line.strip()]
    entries = [entry for line in lines if (entry := _parse(line)) is not None]
    return entries, len(lines) - len(entries)


def _parse(line: bytes) -> dict[str, str] | None:
    """None for a line that a crash cut off; such a line is counted by the caller."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError too
        return None
    is_whole = isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in ("when", "config", "run"))
    return entry if is_whole else None


def _count(path: Path) -> Openings:
    entries, damaged = _read(path)
    moments = sorted(entry["when"] for entry in entries)
    configs = len({entry["config"] for entry in entries})
    total = len(entries) + damaged
    return Openings(
        openings=total,
        configs=max(configs, min(total, 1)),
        first=moments[0] if moments else None,
        last=moments[-1] if moments else None,
        damaged=damaged,
    )
