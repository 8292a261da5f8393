"""Whether Python that came with a run folder may be run: it may where this user started that configuration on this machine.

The mark of a start is by content, the configuration's and its plugin files', so that a run that is moved or copied keeps it. One line a
configuration in `<state folder>/started.jsonl`. Plugins that are installed are the user's own and need no mark.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import finetunekit
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.plugins.files import PluginFile, read_plugin
from finetunekit.system.files import append_line, read_regular
from finetunekit.system.user_dirs import state_dir

_OURS = Path(finetunekit.__file__).resolve().parent


def note_started(config: str, files: Sequence[PluginFile], warn: Callable[[str], None]) -> None:
    """Mark a configuration as started here by this user; nothing is noted where it names no plugin file.

    Args:
        config: Content of its `config.yaml`.
        files: Plugin files that it names, as they were loaded.
        warn: Hears that the mark cannot be written.
    """
    if not files:
        return
    mark = {"config": _sha256(config.encode()), "plugins": sorted(file.sha256 for file in files)}
    try:
        if mark not in _marks():
            marks_path().parent.mkdir(parents=True, exist_ok=True)
            append_line(marks_path(), f"{json.dumps(mark)}\n")
    except (OSError, RunFolderError) as exc:
        warn(f"warning: {exc}: that this run was started here is not noted; commands on it will ask for --trust.")


def refuse_strange_code(config: Path, files: Sequence[tuple[Path, Path]]) -> None:
    """Refuse to run plugin files of a configuration that was not started here.

    Args:
        config: The configuration in its folder.
        files: Each plugin file as the configuration names it, and where it was found.

    Raises:
        ConfigError: If any of them may not be run; all that may not are named.
    """
    try:
        started = (
            [mark["plugins"] for mark in _marks() if mark["config"] == _sha256(read_regular(config))] if files else []
        )
    except OSError as exc:
        raise ConfigError(f"{config}: whether it was started here is not known ({exc}).") from exc
    known = {digest for digests in started for digest in digests}
    strange = [place for path, place in files if not _may_run(path, place, known, is_started=bool(started))]
    if strange:
        listed = ", ".join(map(str, strange))
        raise ConfigError(
            f"{config.parent}: was not started here by you, and this would run Python that it names: {listed}. Read it first; "
            "then add --trust, in Python trust=True."
        )


def _may_run(path: Path, place: Path, known: set[str], *, is_started: bool) -> bool:
    """What a started configuration names is the user's own, a copy of it where it is one; and so is what finetunekit itself brings."""
    if place.resolve().is_relative_to(_OURS):
        return True
    return is_started and (place == path or _sha256(read_plugin(place)) in known)


def marks_path() -> Path:
    """Where marks are written."""
    return state_dir() / "started.jsonl"


def _marks() -> list[dict[str, Any]]:
    """Whole lines; one that was cut off marks nothing."""
    if not marks_path().exists():
        return []
    marks = []
    for line in read_regular(marks_path()).splitlines():
        try:
            mark = json.loads(line)
            marks.append({"config": str(mark["config"]), "plugins": [str(digest) for digest in mark["plugins"]]})
        except (ValueError, TypeError, KeyError):
            continue
    return marks


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
