"""Whether plugin files that a run folder names, or brings along, may be run: those that this user has started a run with here.

So it is with the address of the cluster that a folder says its runs go on at. Each file is marked by its place and by its content, so that
a run that is moved or copied is known by the copies it holds, and a file that its author changes is known by where it lies. One line a file
in `<state folder>/started.jsonl`. What is installed is the user's own anyway.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import finetunekit
from finetunekit.config.executor_choice import executor_settings
from finetunekit.config.plan import EXECUTOR
from finetunekit.config.preset import setting_text
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.plugins.files import PluginFile, read_plugin
from finetunekit.system.files import append_line, read_regular
from finetunekit.system.formatting import escaped
from finetunekit.system.user_dirs import state_dir

_OURS = Path(finetunekit.__file__).resolve().parent
Mark = tuple[str, str]
"""Path of a plugin file, and the SHA-256 of its content; or an address, and `executor`."""


def note_started(
    files: Sequence[PluginFile], warn: Callable[[str], None], executor: Mapping[str, Any] | None = None
) -> None:
    """Mark plugin files, and the address of an executor, as those of a run that this user starts here.

    Args:
        files: As they were loaded.
        warn: Hears that marks cannot be written.
        executor: That carries it out, as a configuration names it.
    """
    try:
        used = {(str(file.path), file.sha256) for file in files} | _address_mark(executor or {})
        new = used - (_marks() if used else set())
        for path, digest in sorted(new):
            marks_path().parent.mkdir(parents=True, exist_ok=True)
            append_line(marks_path(), json.dumps({"path": path, "sha256": digest}) + "\n")
    except (OSError, RunFolderError) as exc:
        warn(
            f"warning: that plugin files were used here is not noted ({exc}); commands on this run will ask for --trust."
        )


def refuse_strange_code(folder: Path, files: Sequence[tuple[Path, Path]]) -> None:
    """Refuse to run plugin files that this user has started no run with.

    Args:
        folder: Of the run.
        files: Each plugin file as the configuration names it, and where it was found.

    Raises:
        ConfigError: If any of them may not be run; all that may not are named.
    """
    if not files:
        return
    try:
        marks = _marks()
    except OSError as exc:
        raise ConfigError(
            f"{marks_path()}: cannot be read ({exc.strerror or exc}), so no plugin file is known."
        ) from exc
    strange = [place for path, place in files if not _may_run(path, place, marks)]
    if strange:
        raise ConfigError(
            f"{folder}: was not started here by you, and this would run Python that comes with it: {', '.join(map(str, strange))}. "
            "Read it first; then add --trust, in Python trust=True."
        )


def executor_that_resumes(folder: Path, noted: Mapping[str, Any], on: str | None, *, trust: bool) -> tuple[str, ...]:
    """`--set` texts of the executor that a run, or a folder of several, goes on with.

    Args:
        folder: Of it.
        noted: The executor that it was started with, as a configuration names it; empty: none.
        on: What `--on` says; None: nothing.
        trust: Connect to the address that is noted, although this user did not start it here.

    Raises:
        ConfigError: If it would connect to an address that this user has started nothing at.
    """
    chosen = executor_settings(on)
    is_as_noted = bool(noted) and not any("address" in text for text in chosen) and on in (None, noted["name"])
    if is_as_noted and not trust and (strange := _address_mark(noted) - _marks()):
        raise ConfigError(
            f"{folder}: was not started here by you, and would go on at {escaped(next(iter(strange))[0])}. "
            "Say where with --on; or add --trust, in Python trust=True."
        )
    return (*((setting_text(EXECUTOR, dict(noted)),) if noted else ()), *chosen)


def _address_mark(executor: Mapping[str, Any]) -> set[Mark]:
    return {(str(executor["address"]), EXECUTOR)} if executor.get("address") else set()


def _may_run(path: Path, place: Path, marks: set[Mark]) -> bool:
    if place.resolve().is_relative_to(_OURS):
        return True
    is_named = place == path and any(str(path) == known for known, _ in marks)
    return is_named or PluginFile(path, read_plugin(place), place).sha256 in {digest for _, digest in marks}


def marks_path() -> Path:
    """Where marks are written."""
    return state_dir() / "started.jsonl"


def _marks() -> set[Mark]:
    """Of whole lines; one that was cut off marks nothing."""
    if not marks_path().exists():
        return set()
    marks = set()
    for line in read_regular(marks_path()).splitlines():
        try:
            mark = json.loads(line)
            marks.add((str(mark["path"]), str(mark["sha256"])))
        except (ValueError, TypeError, KeyError):
            continue
    return marks
