"""Reports of a finished run: what reporters return, checked and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetunekit import runs
from finetunekit.errors import FinetuneKitError, PluginError
from finetunekit.model import blame, call_builder
from finetunekit.plan import Chosen
from finetunekit.progress import Progress


def write_reports(reports: Sequence[Chosen], path: Path, progress: Progress) -> tuple[Path, ...]:
    """Rebuild every report of a finished run from its folder; a reporter that fails is named and the others go on.

    Returns:
        The files written.
    """
    finished = runs.FinishedRun(path)
    written: list[Path] = []
    for chosen in reports:
        try:
            files = call_builder(chosen, finished)
            _check_files(chosen, files)
        except FinetuneKitError as exc:
            progress.say(
                f"warning: no {chosen.name} report: {exc}" if not isinstance(exc, PluginError) else f"warning: {exc}"
            )
            continue
        for name, content in files.items():
            runs.write_whole(path / runs.REPORTS / name, content)
            written.append(path / runs.REPORTS / name)
        progress.tick(f"{blame(chosen)} done")
    return tuple(written)


def _check_files(chosen: Chosen, files: Any) -> None:
    if not isinstance(files, Mapping):
        raise PluginError(
            f"{blame(chosen)} must return a mapping of file name to bytes. Received: {type(files).__name__}"
        )
    for name, content in files.items():
        if (
            not isinstance(name, str)
            or not isinstance(content, bytes)
            or Path(name).name != name
            or name.startswith(".")
        ):
            raise PluginError(
                f"{blame(chosen)} must return plain file names and bytes. Received: {name!r}: {type(content).__name__}"
            )
