"""Whether a run can be taken up again: what its folder says beside what would be used now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from finetunekit.errors import RunFolderError
from finetunekit.runs.config_diff import Change, environment_changes, plan_changes
from finetunekit.runs.folder import ENVIRONMENT, PHOTOS, PLAN, WEIGHTS
from finetunekit.system.files import read_csv, read_regular

_SHOWN = 6


def changes_since(path: Path, now: Mapping[str, str | bytes]) -> list[str]:
    """What would be another run now, one line each.

    Args:
        path: The run folder; files it does not have yet are not compared.
        now: File name → content it would get now: texts for `plan.json`, `environment.json`, `photos.csv` and `weights.json`, bytes for
            what is compared as a whole, such as the copies of plugin files.

    Raises:
        RunFolderError: If a file of the folder cannot be read.
    """
    compare: dict[str, Callable[[str, str], Iterator[str]]] = {
        PLAN: _plan_lines,
        ENVIRONMENT: _environment_lines,
        WEIGHTS: _weights_lines,
        PHOTOS: _photo_lines,
    }
    found: list[str] = []
    for name, content in now.items():
        if not (path / name).is_file():
            continue
        if isinstance(content, bytes):
            found += [name] if _read(path / name) != content else []
        elif name in compare:
            found += compare[name](_read(path / name).decode("utf-8", errors="surrogateescape"), content)
    return found


def refuse_changes(path: Path, changes: list[str]) -> None:
    """Say what changed and how to go on.

    Raises:
        RunFolderError: If anything changed.
    """
    if changes:
        more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        raise RunFolderError(
            f"{path}: cannot end with the same bits any more. Changed since: {'; '.join(changes[:_SHOWN])}{more}. "
            "Put that back, or go on from the last epoch all the same with --force."
        )


def _plan_lines(before: str, now: str) -> Iterator[str]:
    return _show(plan_changes(json.loads(before), json.loads(now)))


def _environment_lines(before: str, now: str) -> Iterator[str]:
    return _show(environment_changes(json.loads(before), json.loads(now)))


def _weights_lines(before: str, now: str) -> Iterator[str]:
    keys = ("kind", "arrays_sha256")
    first, second = ({key: json.loads(text).get(key) for key in keys} for text in (before, now))
    digests = (first["arrays_sha256"], second["arrays_sha256"])
    if digests[0] != digests[1]:
        yield f"pretrained weights (SHA-256 of the arrays {_short(digests[0])} → {_short(digests[1])})"


def _show(changes: tuple[Change, ...]) -> Iterator[str]:
    for change in changes:
        yield f"{change.key} ({_short(change.first)} → {_short(change.second)})"


def _photo_lines(before: str, now: str) -> Iterator[str]:
    first, second = (_photos(text) for text in (before, now))
    gone = [key for key in first if key not in second]
    new = [key for key in second if key not in first]
    other = [key for key in first if key in second and first[key] != second[key]]
    for count, what in ((gone, "gone"), (new, "new"), (other, "with other content or label")):
        if count:
            photos = "1 photo" if len(count) == 1 else f"{len(count)} photos"
            yield f"{photos} {what} ({count[0][0]}: {count[0][1]})"
    if not (gone or new or other) and list(first) != list(second):
        yield "the order of the photos"


def _photos(text: str) -> dict[tuple[str, str], tuple[str, str]]:
    return {(row["split"], row["path"]): (row["sha256"], row["label"]) for row in read_csv(text)}


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except (OSError, ValueError) as exc:
        raise RunFolderError(f"{path}: cannot be read ({exc}).") from exc
