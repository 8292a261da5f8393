"""The baselines themselves: majority, nearest neighbour, logistic probe, and what the pretrained network says with no training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import WeightsError
from finetunekit.evaluation.baselines.frozen_features import frozen_features
from finetunekit.evaluation.baselines.inputs import BaselineInputs
from finetunekit.evaluation.baselines.record import Baseline, baselines_record, paired_change
from finetunekit.evaluation.baselines.text import baseline_sentences
from finetunekit.evaluation.pretraining_overlap import has_seen_imagenet, match_classes, overlap_record
from finetunekit.models.linear_probe.cross_validation import fit_chosen
from finetunekit.models.linear_probe.learning_curve import LearningCurve, measure_learning_curve
from finetunekit.models.linear_probe.nearest_neighbours import nearest_labels
from finetunekit.statistics import softmax
from finetunekit.system.environment import resolve_precision
from finetunekit.system.memory import free_models
from finetunekit.types import TEST, TRAIN

Features = dict[str, NDArray[np.float32]]


def measure_baselines(
    inputs: BaselineInputs, tuned: NDArray[np.int64], *, is_finetuned: bool
) -> tuple[dict[str, Any], dict[str, Any] | None, LearningCurve | None]:
    """Measure every baseline.

    Args:
        inputs: What the baselines are measured on.
        tuned: The run's answers on the test photos, `(photos,)`.
        is_finetuned: Whether the run trained any of its backbone.

    Returns:
        Contents of `baselines.json` and of `overlap.json`, None for the latter where the backbone has not seen ImageNet; and the learning
        curve of the probe, None where its penalty could not be chosen.

    Raises:
        WeightsError: If the pretrained weights, which the run had, cannot be had any more.
    """
    spec, labels = inputs.plan.spec, inputs.labels
    same = inputs.contract == spec.pixels
    measured = [_majority(inputs)]
    own, measured_own, own_seconds, penalty = _under(inputs, "own", "own pixels" if not same else "")
    if not same:
        _, measured_preset, *_ = _under(inputs, "preset", "preset pixels")
        measured += measured_preset
    measured += measured_own
    logits = _head_logits(inputs, own)
    measured.append(_head(inputs, logits, own_seconds))
    baselines = baselines_record(measured, tuned, labels[TEST], is_finetuned=is_finetuned)
    by_name = {baseline.name: baseline.answers for baseline in measured}
    first, second = by_name.get("probe"), by_name.get("probe_own")
    baselines["pixels"] = None if first is None or second is None else paired_change(first, second, labels[TEST])
    baselines["words"] = baseline_sentences(baselines)
    return baselines, _overlap(inputs, logits), _learning_curve(inputs, own[TRAIN], penalty)


def _learning_curve(
    inputs: BaselineInputs, features: NDArray[np.float32], penalty: float | None
) -> LearningCurve | None:
    if penalty is None:
        return None
    count = inputs.progress.counter("would more photos help? fits")
    return measure_learning_curve(
        features,
        inputs.labels[TRAIN],
        len(inputs.index.classes),
        penalty=penalty,
        groups=_groups(inputs),
        seed=inputs.plan.config.seed,
        count=count,
    )


def _groups(inputs: BaselineInputs) -> list[str]:
    return [photo.group or photo.sha256 for photo in inputs.index.split(TRAIN)]


def _majority(inputs: BaselineInputs) -> Baseline:
    train = inputs.labels[TRAIN]
    commonest = int(np.bincount(train, minlength=len(inputs.index.classes)).argmax())
    name = inputs.index.classes[commonest]
    shown = name if len(name) <= 24 else name[:23] + "…"
    return Baseline("majority", f"always '{shown}', the commonest class", np.full(len(inputs.labels[TEST]), commonest))


def _under(inputs: BaselineInputs, whose: str, pixels: str) -> tuple[Features, list[Baseline], float, float | None]:
    """Nearest neighbour and logistic probe under one pixel contract, `whose` being `preset` or `own`; and the probe's penalty."""
    labels = inputs.labels
    started = time.perf_counter()
    is_own = whose == "own"
    contract = inputs.plan.spec.pixels if is_own else inputs.contract
    # Rounding to bfloat16 does not move a probe; where it is fast, these features cost half.
    precision = inputs.precision if contract == inputs.contract else resolve_precision("auto")
    features = frozen_features(inputs, contract, precision)
    spent = time.perf_counter() - started
    free_models()  # a whole backbone
    suffix = "_own" if is_own and pixels else ""
    where = f", {pixels}" if pixels else ""
    kind = "random" if inputs.plan.config.weights.mode == "random" else "frozen"
    started = time.perf_counter()
    near = nearest_labels(features[TRAIN], labels[TRAIN], features[TEST])
    middle = time.perf_counter()
    measured = [
        Baseline(f"nearest{suffix}", f"nearest neighbour, {kind} features{where}", near, spent + middle - started)
    ]
    title = f"logistic probe, {kind} features{where}"
    try:
        fit, _ = fit_chosen(features[TRAIN], labels[TRAIN], len(inputs.index.classes), groups=_groups(inputs))
    except ValueError as exc:  # too few photos of a class to choose a penalty by cross-validation
        return features, [*measured, Baseline(f"probe{suffix}", title, None, problem=f"{exc}")], spent, None
    answers = fit.logits(features[TEST]).argmax(axis=1)
    measured.append(Baseline(f"probe{suffix}", title, answers, spent + time.perf_counter() - middle))
    return features, measured, spent, fit.penalty


def _head_logits(inputs: BaselineInputs, own: Features) -> Features | str:
    """What the pretrained network's own classification layer says of train and test photos, or why it cannot be asked."""
    from finetunekit.models.load_weights import find_weights
    from finetunekit.models.weights import load_top

    plan = inputs.plan
    if plan.config.weights.mode == "random":
        return "the weights were random (weights.mode: random)"
    if plan.spec.top is None:
        return "the weights come without their classification layer"
    try:
        found = find_weights(plan, inputs.progress.say)
        kernel, bias = load_top(found, plan.spec)
    except WeightsError as exc:  # a user's own file may hold the backbone alone
        return str(exc)
    return {split: values @ kernel + bias for split, values in own.items()}


def _head(inputs: BaselineInputs, logits: Features | str, seconds: float) -> Baseline:
    title = f"{inputs.plan.spec.title}'s own 1000-way head, no training"
    if isinstance(logits, str):
        return Baseline("head", title, None, problem=logits)
    answers = head_predictions(inputs.index.classes, logits[TEST])
    if answers is None:
        return Baseline("head", title, None, problem="fewer than two of the class names are in ImageNet-1k")
    return Baseline("head", title, answers, seconds)


def head_predictions(classes: Sequence[str], logits: NDArray[np.floating[Any]]) -> NDArray[np.int64] | None:
    """What a 1000-way head answers to a task of other classes: each has the share of all ImageNet classes it is matched with.

    Args:
        classes: The task's classes.
        logits: `(photos, 1000)`.

    Returns:
        Class index of each photo, `(photos,)`; None where fewer than two classes are matched, so that there is nothing to choose.
    """
    columns = [one.indices if one.relation != "beside" else () for one in match_classes(classes)]
    if sum(1 for indices in columns if indices) < 2:
        return None
    shares = softmax(logits)
    scores = [shares[:, list(indices)].sum(axis=1) if indices else np.full(len(shares), -1.0) for indices in columns]
    answers: NDArray[np.int64] = np.stack(scores, axis=1).argmax(axis=1)
    return answers


def _overlap(inputs: BaselineInputs, logits: Features | str) -> dict[str, Any] | None:
    plan = inputs.plan
    if plan.config.weights.mode == "random" or not has_seen_imagenet(plan.spec):
        return None
    answers = None if isinstance(logits, str) else logits[TRAIN].argmax(axis=1)
    return overlap_record(inputs.index.classes, plan.spec, inputs.labels[TRAIN], answers)
