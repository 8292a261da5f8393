"""Nested cross-validation of a search: all of it without one part of the photos, its winner scored on that part, for each part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.experiments.ablation.layout import LEAN
from finetunekit.experiments.cross_validation import deal
from finetunekit.experiments.cross_validation_summary import pool_scores
from finetunekit.experiments.openings import note_opening
from finetunekit.experiments.run_group import GroupResult
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.progress import Progress
from finetunekit.types import TEST

if TYPE_CHECKING:
    from finetunekit.data.index import PhotoIndex


def deal_folds(
    preset: str, settings: Sequence[str], seed: int | None, folds: int, progress: Progress
) -> tuple[Plan, PhotoIndex]:
    """The preset as a cross-validation, and its photos.

    Raises:
        ConfigError: If it leaves the test split shut, or has folds already.
        DataError: If a fold would lack a class.
    """
    plan, _ = prepare(preset, settings=(*settings, f"train.folds={folds}"), seed=seed)
    if not plan.config.evaluate.test or plan.config.train.fold is not None:
        raise ConfigError(
            f"{plan.source}: --nested scores every photo once; leave out evaluate.test: false and train.fold."
        )
    return plan, deal(plan, progress)[0]


def search_folds(
    plan: Plan,
    index: PhotoIndex,
    path: Path,
    search: Callable[[tuple[str, ...], Path], GroupResult],
    progress: Progress,
) -> dict[str, Any] | None:
    """Search in each fold and score its winner there.

    Args:
        plan: See `deal_folds`.
        index: Its photos.
        path: Folder of the search.
        search: Searches with further `--set` texts into a folder, its trials among the photos outside of the fold.
        progress: Hears which fold is under way.

    Returns:
        Plain values: `folds`, `pooled` (every score of all photos, each by the winner of a search that never saw it), `over_folds`,
        `winners` (of each fold: its values, its loss on the photos that chose it and on the fold), `openings`; None where another
        process has a fold under way.

    Raises:
        RunFolderError: If the winner of a fold could not be scored.

    Source: nested cross-validation, Varma and Simon 2006, BMC Bioinformatics 7:91.
    """
    folds = plan.config.train.folds or 0
    results = []
    for fold in range(1, folds + 1):
        progress.say(f"fold {fold} of {folds}: the whole search without it")
        results.append(search((*LEAN, f"train.folds={folds}", f"train.fold={fold}"), path / f"fold-{fold}"))
    if any(result.scores["status"] != "finished" for result in results):
        progress.say("note: other processes have folds under way; the last one to end sums them up")
        return None
    runs = [_winner_of(result) for result in results]
    rows = [row for run in runs for row in run.split_predictions(TEST)]
    openings = note_opening(plan, index, index.split(TEST), path, progress.say)
    pooled = pool_scores(rows, [run.metrics for run in runs])
    return {
        "folds": folds,
        "pooled": pooled["pooled"],
        "over_folds": pooled["over_folds"],
        "winners": [_told(result.scores) for result in results],
        "openings": openings,
    }


def _winner_of(result: GroupResult) -> FinishedRun:
    winner = result.scores["winner"]
    if winner is None or winner["test"] is None:
        why = winner["failed"] if winner else "no trial could be finished"
        raise RunFolderError(f"{result.path}: has no winner to score ({why}).")
    return FinishedRun(result.path / winner["folder"])


def _told(scores: Mapping[str, Any]) -> dict[str, Any]:
    best = next(trial for trial in scores["trials"] if trial["number"] == scores["best"])
    test = scores["winner"]["test"]
    return {
        "trial": best["number"],
        "values": best["values"],
        "chosen_by": best["log_loss"],
        "log_loss": test["log_loss"],
        "correct": test["correct"],
        "photos": test["photos"],
    }
