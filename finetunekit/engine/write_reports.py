"""Reports of a finished run: what reporters return, checked and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.plan import Chosen
from finetunekit.errors import FinetuneKitError, PluginError
from finetunekit.plugins.components import call_builder, component_label
from finetunekit.plugins.guard import call_with_timeout
from finetunekit.runs.folder import REPORTS, FinishedRun
from finetunekit.system.files import write_whole
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
) -> tuple[tuple[Path, ...], tuple[MissingReport, ...]]:
    """Rebuild every report of a finished run from its folder; a reporter that fails or hangs is named and the others go on.

    Args:
        reports: Reporters in order.
        path: The run folder.
        progress: Receives the warnings.
        timeout_s: How long to wait for each.
        miniatures: Of photos that this process has decoded; see `FinishedRun`.

    Returns:
        The files written, and the reports that are missing.
    """
    written: list[Path] = []
    missing: list[MissingReport] = []
    for chosen in reports:
        before = _stamps(path)
        try:
            files = call_with_timeout(
                timeout_s, component_label(chosen), partial(call_builder, chosen, FinishedRun(path, miniatures or {}))
            )
            _check_files(chosen, files)
            for name, content in files.items():
                write_whole(path / REPORTS / name, content)
                written.append(path / REPORTS / name)
        except FinetuneKitError as exc:
            line = str(exc) if isinstance(exc, PluginError) else f"no {chosen.name} report: {exc}"
            progress.say(f"warning: {line}")
            missing.append(MissingReport(chosen.name, line))
        spoilt = sorted(name for name, stamp in _stamps(path).items() if before.get(name) not in (None, stamp))
        spoilt += sorted(before.keys() - _stamps(path).keys())
        if spoilt:
            progress.say(f"warning: {component_label(chosen)} changed what it may only read: {', '.join(spoilt)}")
        progress.show(f"{component_label(chosen)} done")
    progress.close()
    return tuple(written), tuple(missing)


def _stamps(path: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of the run's own files; reports are written anew each time."""
    return {f.name: (f.stat().st_size, f.stat().st_mtime_ns) for f in path.iterdir() if f.is_file()}


def _check_files(chosen: Chosen, files: Any) -> None:
    if not isinstance(files, Mapping):
        raise PluginError(
            f"{component_label(chosen)} must return a mapping of file name to bytes. Received: {type(files).__name__}"
        )
    for name, content in files.items():
        if (
            not isinstance(name, str)
            or not isinstance(content, bytes)
            or Path(name).name != name
            or name.startswith(".")
        ):
            raise PluginError(
                f"{component_label(chosen)} must return plain file names and bytes. Received: {name!r}: {type(content).__name__}"
            )
