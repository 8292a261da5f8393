"""After the scores: Grad-CAM of the worst mistakes, the baselines, the pretraining overlap; what makes the scores readable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.decoded_photos import PixelStore
from finetunekit.data.index import PhotoIndex
from finetunekit.errors import FinetuneKitError
from finetunekit.evaluation.baselines.inputs import BaselineInputs
from finetunekit.evaluation.baselines.measure import measure_baselines
from finetunekit.evaluation.gradcam import MISSING, explained, find_map_layer, gradcam_maps
from finetunekit.evaluation.next_steps import next_steps
from finetunekit.evaluation.pixel_contract_check import checked_photos
from finetunekit.models.classifier import Classifier
from finetunekit.runs.folder import BASELINES, GRADCAM, NEXT_STEPS, OVERLAP, FinishedRun, note_seconds
from finetunekit.system.files import to_json, write_whole
from finetunekit.system.progress import Progress
from finetunekit.training.stage_context import Prepared, StageContext
from finetunekit.types import TEST, BackboneSpec


def baseline_inputs(context: StageContext, index: PhotoIndex, photos: PixelStore, prepared: Prepared) -> BaselineInputs:
    """What the baselines need of a trained run, its network left out.

    Args:
        context: Of the run.
        index: Its photos.
        photos: Their pixels.
        prepared: Its last stage.
    """
    checked, plan = checked_photos(context), context.plan
    is_pretrained = plan.config.weights.mode != "random" and all(stage.config.kind == "solve" for stage in plan.stages)
    return BaselineInputs(
        plan=plan,
        index=index,
        contract=context.contract,
        precision=context.precision,
        photos=photos,
        checked=checked[0].sha256 if checked else (),
        boundary=prepared.cut.boundary if prepared.cut else (),
        backbone=context.classifier.backbone if is_pretrained else None,
        progress=context.progress,
    )


def write_gradcam(
    path: Path, classifier: Classifier, inputs: BaselineInputs, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Write `gradcam.json` of a run whose predictions and metrics are written, where its plan asks for it.

    What cannot be measured is said in one warning; the run's own scores do not depend on it.

    Args:
        path: Run folder.
        classifier: Its network.
        inputs: Its photos and how they are fed.
        metrics: Content of `metrics.json`.

    Returns:
        The metrics with `seconds.gradcam_s`, as they were written again.
    """
    most = inputs.plan.config.insights.gradcam_photos
    return _write("gradcam", lambda: _write_gradcam(path, classifier, inputs, most), path, metrics, inputs.progress)


def write_baselines(
    path: Path, inputs: BaselineInputs, metrics: Mapping[str, Any], backbones: Mapping[str, BackboneSpec]
) -> dict[str, Any]:
    """Write `baselines.json`, `overlap.json` and `next_steps.json`.

    As `write_gradcam`, but without the run's network, which need not exist any more; `backbones` are those that a next step may name.
    """
    accuracy = metrics["test"]["accuracy"]
    return _write(
        "baselines", lambda: _write_baselines(path, inputs, accuracy, backbones), path, metrics, inputs.progress
    )


def _write(
    name: str, job: Callable[[], None], path: Path, metrics: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    progress.show(f"measuring: {name}")
    started = time.perf_counter()
    try:
        job()
    except FinetuneKitError as exc:
        progress.say(f"warning: no {name}: {exc}")
    return note_seconds(path, metrics, {f"{name}_s": time.perf_counter() - started})


def _write_baselines(
    path: Path, inputs: BaselineInputs, accuracy: Mapping[str, Any], backbones: Mapping[str, BackboneSpec]
) -> None:
    run = FinishedRun(path)
    rows = run.split_predictions(TEST)
    tuned = np.array([inputs.index.classes.index(row["predicted"]) for row in rows], dtype=np.int64)
    baselines, overlap, curve = measure_baselines(inputs, tuned, is_finetuned=is_finetuned(run.state["stages"]))
    write_whole(path / BASELINES, to_json(baselines))
    steps = next_steps(inputs.plan, inputs.index, rows, accuracy, baselines["baselines"], curve, backbones, path)
    write_whole(path / NEXT_STEPS, to_json(steps))
    if overlap is not None:
        write_whole(path / OVERLAP, to_json(overlap))


def is_finetuned(stages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a stage whose weights were kept trained a layer of the backbone."""
    kept = [stage for stage in stages if not stage.get("revert", {}).get("reverted")]
    return any(rate > 0 for stage in kept for rate in stage["decision"].values())


def _write_gradcam(path: Path, classifier: Classifier, inputs: BaselineInputs, most: int) -> None:
    layer = find_map_layer(classifier.backbone.model)
    if layer is None:
        write_whole(path / GRADCAM, to_json({"layer": None, "words": MISSING, "maps": {}}))
        return
    rows = FinishedRun(path).split_predictions(TEST)
    shown = _worst(rows, most)
    if not shown:
        return
    classes = [inputs.index.classes.index(rows[i]["predicted"]) for i in shown]
    pixels: NDArray[np.uint8] = inputs.photos.split(TEST).pixels[shown]
    maps = gradcam_maps(classifier.logits, layer, pixels, classes, inputs.contract)
    record = explained(layer, [rows[i]["sha256"] for i in shown], maps)
    write_whole(path / GRADCAM, to_json(record))


def _worst(rows: Sequence[Mapping[str, str]], most: int) -> list[int]:
    """Positions of wrongly answered photos, most confident first."""
    wrong = [i for i, row in enumerate(rows) if row["predicted"] != row["true"]]
    return sorted(wrong, key=lambda i: (-float(rows[i][f"p_{rows[i]['predicted']}"]), rows[i]["path"]))[:most]
