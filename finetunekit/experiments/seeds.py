"""Several seeds of one configuration: a run each under one folder, what they say together, and going on where they were stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetunekit.config.plan import Plan, config_text
from finetunekit.config.planning import prepare
from finetunekit.engine.api import RunResult, resume, run_plan
from finetunekit.engine.result import RunGroup
from finetunekit.errors import ConfigError, FinetuneKitError, RunFolderError
from finetunekit.runs.folder import (
    ENVIRONMENT,
    PHOTOS,
    PLAN,
    SEEDS,
    STATE,
    FinishedRun,
    drop_model,
    new_run_path,
    read_status,
)
from finetunekit.system.files import locked, to_csv, to_json, work_in, write_whole
from finetunekit.system.progress import Progress, default_progress, resume_hint

SEEDS_CONFIG = "seeds.yaml"


def run_seeds(
    preset: str | Path,
    seeds: int,
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> RunGroup:
    """Run a preset with several seeds, one run each, in one folder.

    Args:
        preset: Preset name or path of a YAML file; later changes of that file change none of the runs.
        seeds: How many, counted up from the first.
        settings: As in `run`.
        seed: The first seed; default: the preset's.
        out: Folder in which the folder of the runs is made.
        progress: As in `run`.

    Raises:
        ConfigError: If there is no seed to run, the test split stays shut, or as `run`.
        As `run`: seeds that were finished by then are kept, and `resume_seeds` goes on with the others.
    """
    progress = progress or default_progress()
    plan, _ = prepare(preset, settings=settings, seed=seed, progress=progress)
    if seeds < 1:
        raise ConfigError(f"seeds: at least 1. Received: {seeds}")
    if not plan.config.evaluate.test:
        raise ConfigError("evaluate.test: false leaves seeds no score to sum up. Use `ablate`, or leave it out.")
    state = {
        "status": "running",
        "name": plan.config.name,
        "preset": plan.source,
        "settings": list(settings),
        "folder": str(Path.cwd()),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seeds": [plan.config.seed + number for number in range(seeds)],
    }
    files = {SEEDS: to_json(state), SEEDS_CONFIG: config_text(plan)}
    for stopped in _stopped_alike(Path(out), files[SEEDS_CONFIG], state["seeds"]):
        progress.say(f"note: the same seeds were stopped in {stopped}; finetunekit resume goes on with them")
    path = new_run_path(Path(out), f"{plan.config.name}-seeds", files)
    return _run_all(path, state, progress, is_forced=False)


def resume_seeds(path: Path, *, is_forced: bool = False, progress: Progress | None = None) -> RunGroup:
    """Go on with seeds that were stopped: finished runs are kept, the one under way is taken up, the missing ones are run.

    All of it ends with the bits of seeds that were never stopped, on the same machine, with the same versions and threads.

    Args:
        path: Folder of the runs.
        is_forced: Go on although configuration, photos, versions or machine changed.
        progress: Where progress is printed.

    Raises:
        RunFolderError: If the folder holds no seeds, another process writes it, or something changed.
        As `run`.
    """
    progress = progress or default_progress()
    path = path.resolve()
    try:
        state = json.loads((path / SEEDS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise RunFolderError(f"{path}: holds no seeds that can be read ({exc}).") from exc
    with work_in(state["folder"]):
        if state["status"] != "finished" and not is_forced:
            _refuse_changes(path, state, progress)
        return _run_all(path, state, progress, is_forced=is_forced)


def _run_all(path: Path, state: Mapping[str, Any], progress: Progress, *, is_forced: bool) -> RunGroup:
    from finetunekit.experiments.seeds_summary import seeds_lines, summarise_runs

    seeds = state["seeds"]
    how = f"finished seeds are kept; go on with: finetunekit resume {shlex.quote(str(path))}"
    with locked(path), resume_hint(path, how, progress), _gone_if_without_runs(path):
        results = []
        for number, seed in enumerate(seeds, start=1):
            progress.say(f"seed {number} of {len(seeds)}: {seed}")
            results.append(_run_seed(path, state, seed, progress, is_forced=is_forced))
            config = FinishedRun(results[-1].path).config
            kept = config["save"]["seeds"]
            if kept == "none" or (kept == "first" and number > 1):
                drop_model(results[-1].path)
        metrics = [result.metrics for result in results]
        try:
            scores = {**state, "status": "finished", **summarise_runs(metrics)}
        except ValueError as exc:
            raise RunFolderError(f"{path}: the seeds cannot be summed up: {exc}. Run them anew.") from exc
        scores["folders"] = [result.path.name for result in results]
        write_whole(path / SEEDS, to_json(scores))
    is_sharing = config["view_seed"] is not None
    return RunGroup(path, tuple(results), scores, seeds_lines(metrics, is_sharing_views=is_sharing))


def _stopped_alike(out: Path, config: str, seeds: Any) -> Iterator[Path]:
    """Folders in which these very seeds of this configuration wait to be gone on with."""
    for place in sorted(file.parent for file in out.glob(f"[!.]*/{SEEDS}")):
        with contextlib.suppress(OSError, ValueError, KeyError, RunFolderError):  # what cannot be read is not spoken of
            state = json.loads((place / SEEDS).read_text(encoding="utf-8"))
            is_same = (state["seeds"], (place / SEEDS_CONFIG).read_text(encoding="utf-8")) == (seeds, config)
            if is_same and read_status(place) not in ("finished", "running"):
                yield place


@contextlib.contextmanager
def _gone_if_without_runs(path: Path) -> Iterator[None]:
    """Leave no folder behind where the first run was refused before it trained: the error says all there is to know."""
    try:
        yield
    except FinetuneKitError:
        if not known_seeds(path):
            shutil.rmtree(path, ignore_errors=True)
        raise


def _run_seed(path: Path, state: Mapping[str, Any], seed: int, progress: Progress, *, is_forced: bool) -> RunResult:
    """The run of one seed: the finished one, or the one that was under way taken up, or a new one."""
    earlier = known_seeds(path).get(seed)
    if earlier is not None:
        return resume(earlier, is_forced=is_forced, progress=progress)
    plan, host = prepare(path / SEEDS_CONFIG, seed=seed, progress=progress)
    plan = dataclasses.replace(plan, source=state["preset"])
    folder_name = f"{plan.config.name}-seed-{seed}"
    return run_plan(plan, host, state["settings"], path, progress, folder_name=folder_name)


def known_seeds(path: Path) -> dict[int, Path]:
    """Runs that lie in a folder of seeds, finished or not: seed → run folder."""
    places = sorted(state.parent for state in path.glob(f"[!.]*/{STATE}"))
    return {int(FinishedRun(place).state["seed"]): place for place in places}


def _refuse_changes(path: Path, state: Mapping[str, Any], progress: Progress) -> None:
    """Refuse to add runs that would differ from those that are there in more than their seed."""
    from finetunekit.runs.resume_check import changes_since, refuse_changes
    from finetunekit.system.environment import describe_environment, start_tensorflow

    known = known_seeds(path)
    if not known:
        return
    seed = min(known)
    plan, _ = prepare(path / SEEDS_CONFIG, seed=seed, progress=progress)
    start_tensorflow()
    now = {
        PLAN: to_json(dataclasses.replace(plan, source=state["preset"]).to_dict()),
        ENVIRONMENT: to_json(describe_environment()),
        PHOTOS: _manifest(plan, progress),
    }
    refuse_changes(path, changes_since(known[seed], now))


def _manifest(plan: Plan, progress: Progress) -> str:
    from finetunekit.data.listing import index_listing, list_photos
    from finetunekit.data.manifest import MANIFEST_COLUMNS, manifest_rows

    index = index_listing(plan, list_photos(plan, progress), progress)
    return to_csv(manifest_rows(index), MANIFEST_COLUMNS)
