"""Cross-validation: a run for each fold under one folder, and scores of all photos, each predicted by a network that never saw it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.plan import Plan, config_text
from finetunekit.config.planning import prepare
from finetunekit.engine.api import RunResult, resume, run
from finetunekit.engine.result import RunGroup
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.experiments.cross_validation_summary import fold_lines, pool_scores
from finetunekit.runs.folder import CONFIG, CROSS_VALIDATION, PREDICTIONS, FinishedRun, new_run_path
from finetunekit.system.files import locked, to_csv, to_json, work_in, write_whole
from finetunekit.system.progress import Progress, default_progress, resume_hint
from finetunekit.types import TEST

if TYPE_CHECKING:
    from finetunekit.data.index import IndexedPhoto, PhotoIndex

CROSS_CONFIG, FOLDS = "cross_validation.yaml", "folds.csv"


def run_folds(
    preset: str | Path,
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> RunGroup:
    """Cross-validate a preset whose `train.folds` is set: one run a fold, each photo tested on once.

    Photos of all splits are dealt into folds: classes in equal parts, groups and copies of one file together. In the run of a fold,
    that fold is the test split, the next one the validation split, the others train.

    Args:
        preset: As in `finetunekit.run`, and so are the others.
        settings: `a.b[0].c=VALUE` texts.
        seed: Replaces the preset's seed; the same for all folds.
        out: Folder in which the cross-validation's own folder is made.
        progress: Where progress is printed.

    Raises:
        ConfigError: If `train.folds` is not set, or as `run`.
        DataError: If a fold would lack a class.
        As `run`: what was finished by then is kept, and `resume_folds` goes on with it.
    """
    progress = progress or default_progress()
    plan, _ = prepare(preset, settings=settings, seed=seed, progress=progress)
    if plan.config.train.folds is None or plan.config.train.fold is not None:
        raise ConfigError(f"{plan.source}: train.folds is not set, or train.fold is. Set train.folds alone.")
    if not plan.config.evaluate.test:
        raise ConfigError(f"{plan.source}: a cross-validation scores test photos; leave out evaluate.test: false.")
    index, fold_of = _deal(plan, progress)
    state = {
        "status": "running",
        "name": plan.config.name,
        "preset": str(preset),
        "folder": str(Path.cwd()),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "planned": plan.config.train.folds,
    }
    files = {
        CROSS_VALIDATION: to_json(state),
        CROSS_CONFIG: config_text(plan),
        FOLDS: _folds_text(index, fold_of),
    }
    path = new_run_path(Path(out), f"{plan.config.name}-folds", files)
    return _run_all(path, plan, index, fold_of, state, progress)


def resume_folds(path: Path, *, is_forced: bool = False, progress: Progress | None = None) -> RunGroup:
    """Go on with a cross-validation that was stopped: finished folds are kept, one that was under way is taken up.

    Args:
        path: Its folder.
        is_forced: Go on with the fold under way although configuration, weights, versions or machine changed; photos may never.
        progress: Where progress is printed.

    Raises:
        RunFolderError: If the folder holds no cross-validation, or photos or folds have changed since.
        As `run`.
    """
    progress = progress or default_progress()
    path = path.resolve()
    try:
        state = json.loads((path / CROSS_VALIDATION).read_text(encoding="utf-8"))
        before = (path / FOLDS).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise RunFolderError(f"{path}: holds no cross-validation that can be read ({exc}).") from exc
    with work_in(state["folder"]):
        plan, _ = prepare(str(path / CROSS_CONFIG), progress=progress)
        index, fold_of = _deal(plan, progress)
        if _folds_text(index, fold_of) != before:
            raise RunFolderError(f"{path}: photos, labels or folds have changed since. Run the cross-validation anew.")
        return _run_all(path, plan, index, fold_of, state, progress, is_forced=is_forced)


def _deal(plan: Plan, progress: Progress) -> tuple[PhotoIndex, dict[Path, int]]:
    """Every photo, in the splits it comes with, and its fold: so all that can be wrong with them is said before the first run."""
    from finetunekit.data.folds import fold_of_photos
    from finetunekit.data.listing import index_listing, list_photos

    index = index_listing(plan, list_photos(plan, progress), progress)
    folds = plan.config.train.folds
    assert folds is not None
    return index, fold_of_photos(index, folds, seed=plan.config.train.fold_seed)


def _folds_text(index: PhotoIndex, fold_of: Mapping[Path, int]) -> str:
    """The folds as a table that the data source `table` reads."""
    photos = {photo.path: photo for photo in index.photos if photo.path in fold_of}
    rows = [
        {"file_name": p.shown, "sha256": p.sha256, "label": p.label, "group": p.group or "", "fold": fold_of[path]}
        for path, p in photos.items()
    ]
    return to_csv(rows, ("file_name", "sha256", "label", "group", "fold"))


def _run_all(
    path: Path,
    plan: Plan,
    index: PhotoIndex,
    fold_of: Mapping[Path, int],
    state: dict[str, Any],
    progress: Progress,
    *,
    is_forced: bool = False,
) -> RunGroup:
    folds = plan.config.train.folds
    assert folds is not None
    how = f"finished folds are kept; go on with: finetunekit resume {shlex.quote(str(path))}"
    with locked(path), resume_hint(path, how, progress):
        results = []
        for fold in range(1, folds + 1):
            progress.say(f"fold {fold} of {folds}")
            results.append(_run_fold(path, plan, fold, progress, is_forced=is_forced))
            openings = _note_opening(path, plan, index.split(TEST), index, progress)
        _note_opening(path, plan, {p.path: p for p in index.photos if p.path in fold_of}.values(), index, progress)
        rows = _pool([result.path for result in results])
        columns = tuple(rows[0])
        write_whole(path / PREDICTIONS, to_csv(rows, columns))
        scores = {
            **state,
            "status": "finished",
            **pool_scores(rows, [result.metrics for result in results]),
            "runs": [str(result.path.relative_to(path)) for result in results],
            "groups": len({photo.group for photo in index.photos if photo.group is not None}),
            "openings": openings,
        }
        write_whole(path / CROSS_VALIDATION, to_json(scores))
    return RunGroup(path, tuple(results), scores, fold_lines(scores))


def _run_fold(path: Path, plan: Plan, fold: int, progress: Progress, *, is_forced: bool) -> RunResult:
    """The run of one fold: the finished one, or the one that was under way taken up, or a new one."""
    name = f"{plan.config.name[:70]}-fold-{fold}"
    earlier = sorted(place.parent for place in path.glob(f"{name}-*/{CONFIG}"))
    if earlier:
        return resume(earlier[-1], is_forced=is_forced, progress=progress)
    settings = [f"train.fold={fold}", f"name={name}"]
    return run(path / CROSS_CONFIG, settings=settings, out=path, progress=progress)


def _pool(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The test predictions of every fold, with the fold's number first."""
    return [
        {"fold": fold, **row}
        for fold, path in enumerate(paths, start=1)
        for row in FinishedRun(path).predictions
        if row["split"] == TEST
    ]


def _note_opening(
    path: Path, plan: Plan, photos: Iterable[IndexedPhoto], index: PhotoIndex, progress: Progress
) -> dict[str, Any] | None:
    """Note in the user's ledger that labels of these photos met predictions of this cross-validation.

    Each fold's own run notes its own test photos; here it is about all of them, and about those that are the test split without
    folds. Returns the openings so far; None where they cannot be recorded.
    """
    from finetunekit.data.index import content_key
    from finetunekit.runs.test_split_ledger import config_key, record_opening

    values = plan.to_dict()
    everything = content_key((photo.sha256, photo.label or "") for photo in index.photos)
    key = config_key(values["config"], components=values["components"], photo_keys=[everything])
    try:
        test = content_key((photo.sha256, photo.label or "") for photo in photos)
        return asdict(record_opening(test, key, name=plan.config.name, run_path=path))
    except RunFolderError as exc:
        progress.say(f"warning: this opening of the test split is not counted: {exc}")
        return None
