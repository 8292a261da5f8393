"""What a search found, as plain values: every trial, what choosing did to the figure of the best, and the winner's test figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from finetunekit.engine.result import RunResult
from finetunekit.errors import RunError
from finetunekit.experiments.ablation.record import Finished
from finetunekit.experiments.tuning.space import Choices, Search, Setting
from finetunekit.experiments.tuning.study import Tried
from finetunekit.runs.folder import FinishedRun
from finetunekit.statistics.selection import check_selection
from finetunekit.system.files import to_csv
from finetunekit.types import TEST, VALID

METRIC = "validation log loss"


def make_record(
    search: Search,
    trials: Sequence[Tried],
    scored: Mapping[int, Finished],
    folders: Mapping[int, Path],
    *,
    importances: Mapping[str, float] | None,
    winner: RunResult | RunError | None,
    nested: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Content of `tune.json`.

    Args:
        search: What was asked.
        trials: As the database has them.
        scored: Number → scores of a complete trial; all on the same photos.
        folders: Number → run folder.
        importances: Of the settings; None where there are too few trials to say.
        winner: Its run on the test split, or why it failed; None where none was run.
        nested: See `search_folds`; None where it was not asked for.

    Returns:
        Plain values: what was asked; `space`; `trials`, each with its values, state, loss, photos right, seconds, epochs and folder;
        `best`, number of the trial with the lowest loss; `against_preset`, the difference of its loss to that of trial 0 on the same
        photos; `selection`, see `statistics.selection.Selection`; `importances`; `winner`; `nested`.
    """
    complete = sorted(scored)
    best = min(complete, key=lambda number: (scored[number].scores[VALID].log_loss, number), default=None)
    under_way = [trial.number for trial in trials if trial.state == "running"]
    return {
        "status": "running" if under_way else "finished",
        "name": search.name,
        "metric": METRIC,
        "seed": search.seed,
        "asked": search.section.model_dump(mode="json", exclude={"vary"}),
        "space": [_setting(setting) for setting in search.space],
        "stand_in": next((one.stand_in for one in scored.values()), None),
        "photos": next((len(one.scores[VALID].content) for one in scored.values()), None),
        "under_way": under_way,
        "trials": [
            _trial(search, trial, scored, folders) for trial in trials if trial.state not in ("running", "void")
        ],
        "best": best,
        "against_preset": _against(scored, best),
        "selection": _selection(search, scored, complete),
        "importances": dict(importances) if importances else None,
        "winner": None if winner is None else _winner(winner),
        "nested": nested,
    }


def trials_csv(record: Mapping[str, Any]) -> str:
    """The trials as a table.

    Args:
        record: Content of `tune.json`.
    """
    keys = [setting["key"] for setting in record["space"]]
    columns = ("number", "state", *keys, "log_loss", "correct", "photos", "epochs", "seconds", "folder", "why")
    return to_csv([{**trial, **trial["values"], "photos": record["photos"]} for trial in record["trials"]], columns)


def _setting(setting: Setting) -> dict[str, Any]:
    common = {"key": setting.key, "path": setting.path, "written": setting.written}
    if isinstance(setting, Choices):
        return {**common, "kind": "choices", "own": setting.own, "choices": list(setting.labels)}
    own = None if setting.own is None else setting.shown(setting.own)
    return {**common, "kind": setting.kind, "own": own, "low": setting.low, "high": setting.high}


def _trial(search: Search, trial: Tried, scored: Mapping[int, Finished], folders: Mapping[int, Path]) -> dict[str, Any]:
    folder, one = folders.get(trial.number), scored.get(trial.number)
    numbers = {
        s.key: None if isinstance(s, Choices) else s.value(trial.params[s.key])
        for s in search.space
        if s.key in trial.params
    }
    return {
        "number": trial.number,
        "state": trial.state,
        "values": search.shown(trial.params),
        "numbers": numbers,
        "settings": list(search.choices(trial.params)) if trial.number else [],
        "log_loss": None if one is None else one.scores[VALID].log_loss,
        "correct": None if one is None else int(one.scores[VALID].is_right.sum()),
        "seconds": None if one is None else one.seconds,
        "epochs": len(FinishedRun(folder).epochs) if folder is not None and (folder / "epochs.csv").is_file() else None,
        "folder": None if folder is None else folder.name,
        "why": trial.why,
    }


def _against(scored: Mapping[int, Finished], best: int | None) -> dict[str, Any] | None:
    """Loss of the best minus that of the preset on the same photos; None where either is missing or they are one."""
    if best in (None, 0) or 0 not in scored:
        return None
    ours, theirs = scored[best or 0].scores[VALID], scored[0].scores[VALID]
    changes = ours.losses - theirs.losses
    return {
        "difference": float(changes.mean()),
        "gained": int((ours.is_right & ~theirs.is_right).sum()),
        "lost": int((~ours.is_right & theirs.is_right).sum()),
    }


def _selection(search: Search, scored: Mapping[int, Finished], complete: Sequence[int]) -> dict[str, Any] | None:
    """None where there was nothing to choose from."""
    if len(complete) < 2 or len(scored[complete[0]].scores[VALID].content) < 2:
        return None
    losses = np.stack([scored[number].scores[VALID].losses for number in complete])
    is_right = np.stack([scored[number].scores[VALID].is_right for number in complete])
    found = asdict(check_selection(losses, is_right, seed=search.seed))
    del found["best"]  # a position; `best` of the record is the number of the trial
    return found


def _winner(winner: RunResult | RunError) -> dict[str, Any]:
    if isinstance(winner, RunError):
        return {"folder": None, "failed": str(winner), "valid": None, "test": None, "openings": None}
    metrics = winner.metrics
    return {
        "folder": winner.path.name,
        "failed": None,
        "valid": _scores(metrics[VALID]),
        "test": _scores(metrics[TEST]) if TEST in metrics else None,
        "openings": metrics.get("openings"),
    }


def _scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    accuracy, loss = scores["accuracy"], scores["log_loss"]
    return {
        "correct": accuracy["successes"],
        "photos": accuracy["photos"],
        "accuracy": accuracy["value"],
        "interval": accuracy["interval"],
        "log_loss": loss["value"],
        "log_loss_interval": loss["interval"],
    }
