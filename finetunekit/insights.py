"""After the scores: the ladder, the pretraining overlap, Grad-CAM of the worst mistakes; what makes the scores readable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit import gradcam, runs
from finetunekit.data.index import PhotoIndex
from finetunekit.errors import FinetuneKitError
from finetunekit.ladder.climb import Ground, climb
from finetunekit.loading import decode_split
from finetunekit.reporting import note_seconds
from finetunekit.stage_context import Photos, Prepared, StageContext
from finetunekit.types import TEST, TRAIN


def write_insights(
    path: Path,
    context: StageContext,
    index: PhotoIndex,
    prepared: Prepared,
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    """Write `ladder.json`, `overlap.json` and `gradcam.json` of a run whose predictions and metrics are written.

    What cannot be measured is said in one warning; the run's own scores do not depend on any of it.

    Args:
        path: Run folder.
        context: Of the run.
        index: Its photos.
        prepared: Its last stage.
        metrics: Content of `metrics.json`.

    Returns:
        The metrics with `seconds.ladder_s` and `seconds.gradcam_s`, as they were written again.
    """
    asked = context.plan.config.insights
    seconds: dict[str, float] = {}
    photos = _Decoded(context, index)
    jobs: list[tuple[str, Callable[[], None]]] = []
    if asked.ladder:
        jobs.append(("ladder", lambda: _write_ladder(path, context, index, prepared, photos)))
    if asked.gradcam_photos:
        jobs.append(("gradcam", lambda: _write_gradcam(path, context, index, photos, asked.gradcam_photos)))
    for name, job in jobs:
        context.progress.tick(f"measuring: {name}")
        started = time.perf_counter()
        try:
            job()
        except FinetuneKitError as exc:
            context.progress.say(f"warning: no {name}: {exc}")
        seconds[f"{name}_s"] = time.perf_counter() - started
    return note_seconds(path, metrics, seconds)


class _Decoded:
    """Photos of a split, decoded when they are first asked for."""

    def __init__(self, context: StageContext, index: PhotoIndex) -> None:
        self.context, self.index = context, index
        self.known: dict[str, Photos] = {TRAIN: context.train}

    def split(self, name: str) -> Photos:
        if name not in self.known:
            self.known[name] = decode_split(self.context.plan, self.index, name, self.context.progress)
        return self.known[name]


def _write_ladder(path: Path, context: StageContext, index: PhotoIndex, prepared: Prepared, photos: _Decoded) -> None:
    run = runs.FinishedRun(path)
    rows = [row for row in run.predictions if row["split"] == TEST]
    tuned = np.array([index.classes.index(row["predicted"]) for row in rows], dtype=np.int64)
    decoded = {split: photos.split(split) for split in (TRAIN, TEST)}
    ladder, overlap = climb(Ground(context, index, prepared, decoded, is_finetuned(run.state["stages"])), tuned)
    runs.write_whole(path / runs.LADDER, runs.to_json(ladder))
    if overlap is not None:
        runs.write_whole(path / runs.OVERLAP, runs.to_json(overlap))


def is_finetuned(stages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a stage whose weights were kept trained a layer of the backbone."""
    kept = [stage for stage in stages if not stage.get("revert", {}).get("reverted")]
    return any(rate > 0 for stage in kept for rate in stage["decision"].values())


def _write_gradcam(path: Path, context: StageContext, index: PhotoIndex, photos: _Decoded, most: int) -> None:
    layer = gradcam.find_map_layer(context.classifier.backbone.model)
    if layer is None:
        runs.write_whole(path / runs.GRADCAM, runs.to_json({"layer": None, "words": gradcam.MISSING, "maps": {}}))
        return
    rows = [row for row in runs.FinishedRun(path).predictions if row["split"] == TEST]
    shown = _worst(rows, most)
    if not shown:
        return
    classes = [index.classes.index(rows[i]["predicted"]) for i in shown]
    pixels: NDArray[np.uint8] = photos.split(TEST).pixels[shown]
    maps = gradcam.gradcam_maps(context.classifier.logits, layer, pixels, classes, context.contract)
    record = gradcam.explained(layer, [rows[i]["sha256"] for i in shown], maps)
    runs.write_whole(path / runs.GRADCAM, runs.to_json(record))


def _worst(rows: Sequence[Mapping[str, str]], most: int) -> list[int]:
    """Positions of wrongly answered photos, most confident first."""
    wrong = [i for i, row in enumerate(rows) if row["predicted"] != row["true"]]
    return sorted(wrong, key=lambda i: (-float(rows[i][f"p_{rows[i]['predicted']}"]), rows[i]["path"]))[:most]
