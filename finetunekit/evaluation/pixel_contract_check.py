"""What another pixel contract than the backbone's costs: a probe both ways on the same photos, before anything is trained."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from finetunekit.config.pixel_contract import describe_contract
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.evaluation.probe_features import ProbeFeatures, probe_backbone
from finetunekit.models.classifier import build_backbone
from finetunekit.models.linear_probe.cross_validation import Recipe, fit_chosen
from finetunekit.statistics import photo_log_losses
from finetunekit.system.environment import resolve_precision
from finetunekit.system.formatting import show_percent
from finetunekit.training.stage_context import StageContext
from finetunekit.types import Backbone

if TYPE_CHECKING:
    from finetunekit.data.index import PhotoIndex


def measure_contract(context: StageContext, index: PhotoIndex) -> dict[str, Any] | None:
    """Fit a probe on training photos fed as the run feeds them, and one as the backbone was pretrained; score both on validation.

    Features come from the cache where an earlier run left them. The test split is not looked at.

    Args:
        context: Photos, and the backbone with its pretrained weights, before any training.
        index: The same photos.

    Returns:
        Plain values for `metrics.json`: `train_photos`, `valid_photos`, `seconds`; for `as_configured` and `as_pretrained` the contract,
        `correct`, `accuracy`, `log_loss` (nats) and `penalty`. None where there is nothing to measure: the contract is the backbone's
        own, its weights are random, or `pixels.check_photos` is 0.
    """
    plan = context.plan
    checked = checked_photos(context)
    if checked is None or context.contract == plan.spec.pixels or plan.config.weights.mode == "random":
        return None
    started, (train, valid) = time.perf_counter(), checked
    precision = resolve_precision(
        "auto"
    )  # rounding to bfloat16 does not move a probe, and where it is fast it takes half the time
    backbone = _twin(context, precision)
    own = probe_backbone(plan, index, backbone, precision, context.progress, contract=context.contract)
    pretrained = own.with_contract(plan.spec.pixels)
    return {
        "train_photos": len(train.labels),
        "valid_photos": len(valid.labels),
        "as_configured": _score(own, train, valid),
        "as_pretrained": _score(pretrained, train, valid),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _twin(context: StageContext, precision: str) -> Backbone:
    """The run's backbone in another precision."""
    given = context.classifier.backbone
    if precision == context.precision:
        return given
    twin = build_backbone(context.plan.network, precision)
    for variable, pretrained in zip(twin.model.variables, given.model.variables, strict=True):
        variable.assign(pretrained)
    return twin


def checked_photos(context: StageContext) -> tuple[DecodedPhotos, DecodedPhotos] | None:
    """Those training and validation photos that are probed both ways, `pixels.check_photos` in all; None where that is 0."""
    budget = context.plan.config.pixels.check_photos
    if budget == 0:
        return None
    share = budget / (len(context.train.labels) + len(context.valid.labels))
    return sample(context.train, share), sample(context.valid, share)


def sample(photos: DecodedPhotos, share: float) -> DecodedPhotos:
    """A share of the photos of each class, rounded up, chosen by their checksums: the same ones in every run."""
    if share >= 1:
        return photos
    chosen: list[int] = []
    for label in np.unique(photos.labels):
        of_class = sorted(np.flatnonzero(photos.labels == label).tolist(), key=lambda i: photos.sha256[i])
        chosen += of_class[: int(np.ceil(share * len(of_class)))]
    return photos.take(sorted(chosen))


def _score(probe: ProbeFeatures, train: DecodedPhotos, valid: DecodedPhotos) -> dict[str, Any]:
    features = probe.features_of(train, "train")
    groups = train.groups or train.sha256
    fit, _ = fit_chosen(features, train.labels, probe.num_classes, Recipe(), groups=groups)
    probabilities = fit.probabilities(probe.features_of(valid, "valid"))
    correct = int((probabilities.argmax(axis=1) == valid.labels).sum())
    return {
        "contract": describe_contract(probe.contract),
        "correct": correct,
        "accuracy": correct / len(valid.labels),
        "log_loss": float(photo_log_losses(probabilities, valid.labels).mean()),
        "penalty": fit.penalty,
    }


def contract_lines(measured: Mapping[str, Any], backbone: str) -> Iterator[str]:
    """What was measured, one line each way."""
    yield f"pixels: a probe on {backbone}'s features of {measured['train_photos']} training photos, both ways:"
    for key, how in (("as_configured", "as configured"), ("as_pretrained", f"as {backbone} was pretrained")):
        score = measured[key]
        yield (
            f"  {how}, {score['contract']}: {score['correct']} of {measured['valid_photos']} validation photos right "
            f"({show_percent(score['accuracy'])}), log loss {score['log_loss']:.3f}"
        )
