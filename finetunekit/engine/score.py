"""After a run has trained: every photo predicted, the test split opened, and what follows from the predictions."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.config.plan import Plan
from finetunekit.errors import RunFolderError
from finetunekit.runs.folder import METRICS, PREDICTIONS
from finetunekit.runs.run_record import RunRecord
from finetunekit.system.files import to_csv, to_json, write_whole
from finetunekit.system.progress import Progress
from finetunekit.types import SPLITS, TEST, TRAIN, VALID

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetunekit.data.decoded_photos import DecodedPhotos, PixelStore
    from finetunekit.data.index import PhotoIndex
    from finetunekit.evaluation.likeness import Traits
    from finetunekit.models.forward import Answers
    from finetunekit.runs.test_split_ledger import Openings

METRICS_KEYS = {
    "name": "Of the configuration.",
    "seed": "Of the run.",
    "stand_in": "The sentence to show beside every figure if the photos are a stand-in; null if they are the user's.",
    "classes": "Names; the position is the class index.",
    "test_time_flip": "Whether probabilities are means over each photo and its mirror image.",
    "epochs": "Epochs trained; a stage that is solved has none.",
    "last_epoch": "The row of `epochs.csv` that belongs to the saved network; empty for an ensemble, which trains nothing.",
    "pixel_check": "What it costs a probe to be fed other pixels than the backbone's own; null if that was not measured.",
    "notes": "Sentences about stages that were reverted, or about the members of an ensemble.",
    "calibration": "The temperature that logits are divided by, how it was fitted, and a sentence about it.",
    "train": "Scores on the training photos, see `Scores`; `uncalibrated` has those that depend on the temperature, at temperature 1.",
    "valid": "The same on the validation photos.",
    "test": "The same on the test photos; absent if the test split stayed closed (`evaluate.test: false`).",
    "sets": "How often sets of classes (split conformal prediction) contained the true class on the test photos.",
    "unlike": "How many test photos are unlike the training photos; null if that is not known.",
    "ensemble": "Only of an ensemble: `by` (weights or probabilities), `members`, `is_out_of_fold`, and the `gain` over the best of them.",
    "openings": "How often this test split has been scored, and by how many configurations; null if not counted.",
    "seconds": "Wall-clock seconds by part: `training`, `evaluation`, `baseline_s`, `report_s`, `whole`.",
}
"""Key of `metrics.json` → what it holds."""


Predicted = tuple["NDArray[np.float64]", "Traits | None"]
"""Probabilities `(photos, classes)` of one split, uncalibrated, and what the network makes of its photos before it answers."""


def score_run(
    plan: Plan,
    index: PhotoIndex,
    predict: Callable[[str], Predicted],
    rows: Sequence[Mapping[str, Any]],
    record: RunRecord,
    progress: Progress,
) -> dict[str, Any]:
    """Write `predictions.csv` and `metrics.json` of a run that has trained.

    The network first sees the test split here, after the last epoch; not at all with `evaluate.test: false`.

    Args:
        plan: Of the run.
        index: Its photos.
        predict: Answers for the photos of a split; see `predict_split`.
        rows: Its epochs, as logged; none for an ensemble, which trains nothing.
        record: Gets the temperature, and the keys by which the ledger knows test split and configuration.
        progress: Hears where the opening cannot be counted.

    Returns:
        Content of `metrics.json`.
    """
    from finetunekit.evaluation.answer_sets import shown_sets
    from finetunekit.evaluation.predictions import predict_splits, prediction_columns, prediction_rows
    from finetunekit.evaluation.scores import fit_calibration, score_splits
    from finetunekit.training.stage_record import kept_rows, revert_notes

    started, state = time.time(), record.state
    is_open = plan.config.evaluate.test
    scored = (TRAIN, VALID, TEST) if is_open else (TRAIN, VALID)
    traits: dict[str, Traits] = {}

    def ask(split: str) -> NDArray[np.float64]:
        found, own = predict(split)
        if own is not None:
            traits[split] = own
        return found

    uncalibrated = predict_splits(index, ask, SPLITS if is_open else scored)
    contents = [photo.sha256 for photo in index.split(VALID)]
    state["calibration"] = fit_calibration(uncalibrated[VALID], index.labels(VALID), contents)
    temperature = state["calibration"]["temperature"]
    predictions = [
        row
        for split, found in uncalibrated.items()
        for row in prediction_rows(index.split(split), found, index.classes, temperature)
    ]
    key = _note_keys(plan, index, state)
    # before test labels meet predictions on disk
    openings = _open_test_split(plan, index, key, record, progress) if is_open else None
    write_whole(record.path / PREDICTIONS, to_csv(predictions, prediction_columns(index.classes)))
    metrics = {
        "name": plan.config.name,
        "seed": plan.config.seed,
        "stand_in": index.stand_in,
        "classes": list(index.classes),
        "test_time_flip": plan.config.evaluate.flip,
        "epochs": len(rows) - sum("solve" in stage for stage in state["stages"]) if rows else 0,
        "last_epoch": (kept_rows(rows, state["stages"]) or rows)[-1] if rows else {},
        "pixel_check": state.get("pixel_check"),
        "notes": revert_notes(state["stages"]) if rows else [],
        "calibration": state["calibration"],
        **score_splits(predictions, index.classes, scored),
        "sets": shown_sets(predictions, index.classes, [stage.model_dump() for stage in plan.config.stages]),
        "unlike": _keep_features(traits, index, record.path),
        "openings": dataclasses.asdict(openings) if openings else None,
        "seconds": {
            "training": round(sum(row["seconds"] for row in rows), 1),
            "evaluation": round(time.time() - started, 1),
            "whole": round(time.time() - record.started, 1),  # so far; complete once there are reports
            **({"legs_left_out": len(state["resumed"])} if "resumed" in state else {}),
        },
    }
    write_whole(record.path / METRICS, to_json(metrics))
    return metrics


def predict_split(
    plan: Plan, photos: PixelStore, answer: Callable[[DecodedPhotos, str], Answers], progress: Progress, split: str
) -> Predicted:
    """Ask a network for the photos of one split, and for their mirror images where the plan says so.

    Args:
        plan: Of the run.
        photos: Of all splits.
        answer: See `Prepared.answer`.
        progress: Says what is under way.
        split: Which photos.
    """
    from finetunekit.evaluation.likeness import traits_of
    from finetunekit.models.forward import mean_probabilities

    progress.show(f"evaluating {split} photos")
    decoded = photos.split(split)
    logits, found = answer(decoded, split)
    mirrored = answer(decoded.mirrored(), split)[0] if plan.config.evaluate.flip else None
    return mean_probabilities(logits, mirrored), None if found is None else traits_of(found, logits)


def _keep_features(traits: Mapping[str, Traits], index: PhotoIndex, path: Path) -> dict[str, Any] | None:
    """Write what tells photos that are unlike the training photos; what it says of the test photos, for `metrics.json`."""
    from finetunekit.evaluation.likeness import count_unlike, keep_features, write_features

    if not {TRAIN, VALID} <= traits.keys():
        return None
    train, valid = ([photo.sha256 for photo in index.split(split)] for split in (TRAIN, VALID))
    kept = keep_features(traits[TRAIN], train, traits[VALID], valid)
    write_features(path, kept)
    return count_unlike(kept, traits.get(TEST))


def _note_keys(plan: Plan, index: PhotoIndex, state: dict[str, Any]) -> str:
    """Note what the ledger calls this test split and this configuration; returns the latter."""
    from finetunekit.runs.test_split_ledger import config_key

    written = plan.to_dict()
    photos = [index.content_key(TRAIN), index.content_key(VALID)]
    together = state.get("ensemble", {})
    members = [f"{together['by']} {member['config_key']} {member['seed']}" for member in together.get("members", ())]
    key = config_key(written["config"], components=written["components"], photo_keys=[*photos, *sorted(members)])
    state |= {"config_key": key, "test_content_key": index.content_key(TEST)}
    return key


def _open_test_split(plan: Plan, index: PhotoIndex, key: str, record: RunRecord, progress: Progress) -> Openings | None:
    """Note in the user's ledger that test labels are about to meet predictions; None where the ledger cannot be written."""
    from finetunekit.runs.test_split_ledger import record_opening

    try:
        return record_opening(index.content_key(TEST), key, name=plan.config.name, run_path=record.path)
    except RunFolderError as exc:
        progress.say(f"warning: this opening of the test split is not counted: {exc}")
        return None
