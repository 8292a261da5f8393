"""Trackers brought up to date with runs that are not under way: finished ones, stopped ones, and killed ones that nobody resumed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from finetunekit.config.plan import Chosen
from finetunekit.errors import ConfigError, FinetuneKitError, PluginError, RunFolderError
from finetunekit.plugins.components import component_label
from finetunekit.plugins.guard import call_with_timeout, guarded
from finetunekit.reports.notebook import default_progress
from finetunekit.runs.folder import CONFIG, STATE, FinishedRun, find_run, read_status, run_from
from finetunekit.runs.reopening import reopen_plan
from finetunekit.runs.tracking import (
    RUNNING,
    STOPPED,
    Sender,
    describe_failure,
    has_begun,
    is_marked_running,
)
from finetunekit.system.files import locked
from finetunekit.system.progress import Progress

MARKING_S = 20.0
"""How long a listing waits for each tracker that it tells of a killed run; loading a tracker's library takes seconds."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """What one tracker was sent of one run.

    Attributes:
        path: The run folder.
        tracker: Name in YAML.
        run_id: What the tracker calls the run.
        sent_epochs: How many epochs it lacked.
        status: Of the run, as the tracker was told.
    """

    path: Path
    tracker: str
    run_id: str
    sent_epochs: int
    status: str


def tracker_settings(names: Sequence[str]) -> tuple[str, ...]:
    """`--track NAME`, repeated, as a `--set` text."""
    return (f"track=[{', '.join(f'{{name: {name}}}' for name in names)}]",) if names else ()


def track(
    run: str | Path,
    trackers: Sequence[str] = (),
    *,
    settings: Sequence[str] = (),
    out: str | Path = "runs",
    progress: Progress | None = None,
    trust: bool = False,
) -> tuple[Tracked, ...]:
    """Send what trackers lack of a run that is not under way; a run made without trackers is sent whole.

    Args:
        run: The run folder, its name under `out`, or `last`; or the folder of seeds, folds or an ablation, of which every run is sent.
        trackers: Names of trackers; none: those of the run's own configuration.
        settings: `track[0].uri=VALUE` texts.
        out: Folder of runs.
        progress: Where progress is printed.
        trust: Run plugin files that came with the run, although this user did not start it here.

    Returns:
        One entry a run and tracker.

    Raises:
        ConfigError: If no tracker is named, or a setting is about something else.
        RunFolderError: If there is no such run, it has not trained, or it is under way.
        PluginError: If a tracker fails; what was sent until then is noted.
    """
    progress = progress or default_progress()
    strange = [setting for setting in settings if not setting.startswith("track")]
    if strange:
        raise ConfigError(f"--set {strange[0]}: only settings of `track` can be given for a run that was made.")
    members = next(filter(None, (_members(place) for place in (Path(run), Path(out) / run))), None)
    paths = members or [find_run(run, Path(out))]
    overlay = (*tracker_settings(trackers), *settings)
    return tuple(sent for path in paths for sent in _track_one(path.resolve(), overlay, progress, trust=trust))


def _members(folder: Path) -> list[Path]:
    """Runs of a folder of seeds, folds or cells of an ablation, but for those that were refused before they trained."""
    paths = sorted(file.parent for file in folder.glob(f"[!.]*/{STATE}"))
    return [path for path in paths if FinishedRun(path).state.get("group_key") and has_begun(path)]


def _track_one(path: Path, settings: Sequence[str], progress: Progress, *, trust: bool) -> list[Tracked]:
    status = read_status(path)
    if status == RUNNING:
        raise RunFolderError(f"{path}: is in progress, and sends to its trackers itself.")
    if not has_begun(path):
        raise RunFolderError(f"{path}: has not trained yet; there is nothing to track.")
    with locked(path), run_from(path):
        plan, _ = reopen_plan(path / CONFIG, settings=settings, progress=progress, trust=trust)
        if not plan.track:
            raise ConfigError(f"{path}: its configuration names no tracker. Name one: --track NAME")
        return [_send(chosen, path, status) for chosen in plan.track]


def _send(chosen: Chosen, path: Path, status: str) -> Tracked:
    sender = Sender(chosen, path)
    before = sender.note["epochs"]
    try:
        if sender.is_behind(status):
            with guarded(component_label(chosen)):
                sender.catch_up(status)
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever it was is said, without the secrets that its own text may hold
        raise PluginError(describe_failure(chosen, exc)) from None
    return Tracked(path, chosen.name, sender.note["run_id"], sender.note["epochs"] - before, status)


def mark_stopped(paths: Iterable[Path], progress: Progress) -> None:
    """Tell trackers of runs that were killed, and were not resumed, that they were; each gets `MARKING_S`, and a warning at most.

    Args:
        paths: Run folders, of which some may be killed runs that a tracker still believes to be running.
        progress: Receives warnings.
    """
    members = (run for path in paths for run in (path, *(file.parent for file in path.glob(f"[!.]*/{CONFIG}"))))
    for path in filter(is_marked_running, members):
        try:
            status = read_status(path)
            if status in STOPPED:
                _mark(path.resolve(), status, progress)
        except FinetuneKitError as exc:
            progress.say(f"warning: {path}: its trackers do not know that it is over: {exc}")


def _mark(path: Path, status: str, progress: Progress) -> None:
    with locked(path), run_from(path):
        plan, _ = reopen_plan(path / CONFIG, progress=progress)
        for chosen in plan.track:
            if Sender(chosen, path).note["status"] == RUNNING:
                call_with_timeout(MARKING_S, component_label(chosen), partial(_send, chosen, path, status))
