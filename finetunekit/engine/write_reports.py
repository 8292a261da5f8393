"""Reports of a finished run: what reporters return, checked and written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit.config.plan import Chosen
from finetunekit.engine.report_process import checked_files, report_apart
from finetunekit.errors import FinetuneKitError, PluginError
from finetunekit.plugins.components import call_builder, component_label
from finetunekit.plugins.files import KEPT, PluginFile
from finetunekit.plugins.guard import call_with_timeout
from finetunekit.plugins.host import OWN_DISTRIBUTION
from finetunekit.runs.folder import MODEL_FILES, REPORTS, FinishedRun
from finetunekit.system.files import LOCK, write_whole
from finetunekit.system.formatting import one_line
from finetunekit.system.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class MissingReport:
    """A report that was not written, and why."""

    report: str
    why: str


def write_reports(
    reports: Sequence[Chosen],
    path: Path,
    progress: Progress,
    timeout_s: float = 600.0,
    miniatures: Mapping[str, NDArray[np.uint8]] | None = None,
    plugin_files: Sequence[PluginFile] = (),
) -> tuple[tuple[Path, ...], tuple[MissingReport, ...]]:
    """Rebuild every report of a finished run from its folder; a reporter that fails or hangs is named and the others go on.

    Reporters of this distribution share this process and come first, so that no other takes the name of one of their files; each of the
    others has a process of its own.

    Args:
        reports: Reporters in order.
        path: The run folder.
        progress: Receives the warnings.
        timeout_s: How long to wait for each.
        miniatures: Of photos that this process has decoded; see `FinishedRun`.
        plugin_files: Plugin files of the run, one of which a reporter may come from.

    Returns:
        The files written, and the reports that are missing.
    """
    kept = _KeptFiles(path)
    missing: list[MissingReport] = []
    run = FinishedRun(path, miniatures or {})  # read once for all reporters of our own
    for chosen in sorted(reports, key=lambda chosen: not _is_own(chosen)):
        label = component_label(chosen)
        try:
            files = (
                _report_here(chosen, run, timeout_s)
                if _is_own(chosen)
                else report_apart(chosen, path, plugin_files, timeout_s)
            )
            kept.put_back(label, progress)
            kept.name_strays(label, progress)
            kept.add_reports(label, files)
        except FinetuneKitError as exc:
            kept.put_back(label, progress)
            kept.name_strays(label, progress)
            line = str(exc) if isinstance(exc, PluginError) else f"no {chosen.name} report: {exc}"
            progress.say(f"warning: {line}")
            missing.append(MissingReport(chosen.name, line))
        progress.show(f"{label} done")
    progress.close()
    return tuple(kept.reports), tuple(missing)


def _is_own(chosen: Chosen) -> bool:
    return chosen.registered.origin.distribution == OWN_DISTRIBUTION


def _report_here(chosen: Chosen, run: FinishedRun, timeout_s: float) -> dict[str, bytes]:
    label = component_label(chosen)
    return call_with_timeout(timeout_s, label, lambda: checked_files(label, call_builder(chosen, run)))


class _KeptFiles:
    """The run's own files, which a reporter may only read, and the reports so far; what a reporter does to them is undone.

    Attributes:
        reports: Files of the reports so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reports: list[Path] = []
        self._owners: dict[str, str] = {}
        self._reports_there = _names_in(path / REPORTS)
        files = [
            file for folder in (path, path / KEPT) if folder.is_dir() for file in folder.iterdir() if file.is_file()
        ]
        self._contents = {
            file: None if file.name in MODEL_FILES else file.read_bytes() for file in files if file.name != LOCK
        }
        self._stamps = {file: _stamp(file) for file in self._contents}

    def add_reports(self, label: str, files: Mapping[str, bytes]) -> None:
        """Write the files of one reporter.

        Raises:
            PluginError: If another reporter has written a file of that name, on systems that know no case as well.
            RunFolderError: If one cannot be written.
        """
        for name in files:
            if (owner := self._owners.get(name.casefold())) is not None:
                raise PluginError(f"{label} returns '{name}', which {owner} has written. Give it another name.")
        for name, content in files.items():
            place = self.path / REPORTS / name
            write_whole(place, content)
            self._owners[name.casefold()] = label
            self._reports_there.add(name)
            self._contents[place], self._stamps[place] = content, _stamp(place)
            self.reports.append(place)

    def put_back(self, label: str, progress: Progress) -> None:
        """Undo what the reporter that was called last did to them; models are too large to be kept, and have a checksum."""
        spoilt = [file for file, stamp in self._stamps.items() if _stamp(file) != stamp]
        for file in spoilt:
            content = self._contents[file]
            if content is not None:
                write_whole(file, content)
            self._stamps[file] = _stamp(file)
        if spoilt:
            names = ", ".join(sorted(file.name for file in spoilt))
            progress.say(f"warning: {label} changed what it may only read; it was restored, except for models: {names}")

    def name_strays(self, label: str, progress: Progress) -> None:
        """Say what the reporter that was called last left in the folder of reports by itself; it stays, and is nobody's report."""
        strays = sorted(_names_in(self.path / REPORTS) - self._reports_there)
        self._reports_there.update(strays)
        if strays:
            names = one_line(", ".join(strays))
            progress.say(f"warning: {label} wrote into {REPORTS}/ itself, which reporters leave to the run: {names}")


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _stamp(file: Path) -> tuple[int, int] | None:
    """Size and time of change; None where it is gone."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
