"""Whether a run can be taken up again: what its folder says beside what would be used now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from finetunekit.errors import RunFolderError
from finetunekit.runs.config_diff import Change, environment_changes, plan_changes
from finetunekit.runs.folder import ENVIRONMENT, PHOTOS, PLAN, WEIGHTS
from finetunekit.runs.run_files import read_json_file, read_table_file
from finetunekit.system.files import read_csv, read_regular
from finetunekit.system.formatting import counted

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
    compare: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Iterator[str]]] = {
        PLAN: lambda before, after: _show(plan_changes(before, after)),
        ENVIRONMENT: lambda before, after: _show(environment_changes(before, after)),
        WEIGHTS: _weights_lines,
    }
    found: list[str] = []
    for name, content in now.items():
        if not (path / name).is_file():
            continue
        if isinstance(content, bytes):
            found += [name] if _read(path / name) != content else []
        elif name == PHOTOS:
            found += _photo_lines(read_table_file(path / name), read_csv(content))
        elif name in compare:
            found += compare[name](read_json_file(path / name), json.loads(content))
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
            "Undo that, or continue from the last epoch anyway with --force."
        )


def _weights_lines(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    first, second = before.get("arrays_sha256"), now.get("arrays_sha256")
    if first != second:
        yield f"pretrained weights (SHA-256 of the arrays {_short(first)} → {_short(second)})"


def _show(changes: tuple[Change, ...]) -> Iterator[str]:
    for change in changes:
        yield f"{change.key} ({_short(change.first)} → {_short(change.second)})"


def _photo_lines(before: Iterable[Mapping[str, str]], now: Iterable[Mapping[str, str]]) -> Iterator[str]:
    first, second = (_photos(rows) for rows in (before, now))
    gone = [key for key in first if key not in second]
    new = [key for key in second if key not in first]
    other = [key for key in first if key in second and first[key] != second[key]]
    for count, what in ((gone, "gone"), (new, "new"), (other, "with other content or label")):
        if count:
            yield f"{counted(len(count), 'photo')} {what} ({count[0][0]}: {count[0][1]})"
    if not (gone or new or other) and list(first) != list(second):
        yield "the order of the photos"


def _photos(rows: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    return {(row["split"], row["path"]): (row["sha256"], row["label"]) for row in rows}


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError as exc:
        raise RunFolderError(f"{path}: cannot be read ({exc.strerror or exc}).") from exc
