"""A learning rate range test: which rates a stage learns at, from one short pass with a rising rate. Nothing of it is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finetunekit.config.pixel_contract import contract_of
from finetunekit.config.plan import Plan
from finetunekit.config.training_sections import FitStage
from finetunekit.data.decoded_photos import PixelStore
from finetunekit.errors import ConfigError, RunError
from finetunekit.models.classifier import build_classifier
from finetunekit.models.conv_gradient import fast_gradients
from finetunekit.models.feature_cache import open_cache
from finetunekit.models.folded_norm import folded_norms
from finetunekit.models.load_weights import load_backbone_weights
from finetunekit.models.weight_arrays import assign, copies
from finetunekit.system.environment import prepare_tensorflow, resolve_precision
from finetunekit.system.progress import Progress
from finetunekit.training.batches import Batch, Feed, prefetched
from finetunekit.training.callbacks import moving_variables
from finetunekit.training.losses import build_loss, class_weights, sample_weights
from finetunekit.training.optimizers import build_optimizer
from finetunekit.training.prepare_stage import build_augmenter, prepare_stage
from finetunekit.training.stage_context import Prepared, StageContext
from finetunekit.types import TRAIN, VALID

if TYPE_CHECKING:
    from finetunekit.data.index import PhotoIndex

#: The loss is smoothed by this much a step, and has run away once it is that many times its lowest value.
_SMOOTHING, _RUN_AWAY = 0.95, 4.0
#: Part of the first loss by which it must fall somewhere.
_LEAST_FALL = 0.01


@dataclass(frozen=True, slots=True)
class RateTest:
    """What a range test found.

    Attributes:
        stage: Name of the stage.
        rates: Learning rate of each step, rising.
        losses: Loss of each step, smoothed.
        suggested: Rate at which the smoothed loss falls most steeply.
        at_most: A tenth of the rate at which it is lowest; beyond it training may run away.
        has_run_away: Whether it was stopped because the loss rose without end.
    """

    stage: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float
    at_most: float
    has_run_away: bool


def find_rates(
    plan: Plan,
    index: PhotoIndex,
    progress: Progress,
    *,
    number: int = 0,
    steps: int = 100,
    lowest: float = 1e-6,
    highest: float = 1.0,
) -> RateTest:
    """Train one stage for a few steps, each at a higher rate than the last, and see where the loss falls.

    The stage begins from pretrained weights and a new head: stages before it are not trained first.

    Args:
        plan: The run's plan.
        index: Its photos.
        progress: Says how far it is.
        number: Of the stage, from 0.
        steps: Steps of the test, at least 10.
        lowest: First rate.
        highest: Last rate.

    Raises:
        ConfigError: If the stage is solved, so that it has no rate.
        RunError: If the loss runs away at once, or falls at no rate.

    Source: Smith 2017, section 3.3 (LR range test), arXiv:1506.01186; exponential rates, the smoothed loss, where it is steepest, and
    where to stop, as in fastai's lr_find.
    """
    stage = plan.stages[number].config
    if stage.kind != "fit":
        raise ConfigError(
            f"stage {number + 1}, '{stage.name}', is solved, not trained by steps: it has no learning rate."
        )
    context = _open(plan, index, progress)
    prepared = prepare_stage(context, number)
    progress.say(prepared.mode)
    rates = [lowest * (highest / lowest) ** (i / (steps - 1)) for i in range(steps)]
    weights = class_weights(stage, context.train.labels, index.classes)
    variables = moving_variables(prepared.model)
    before = copies(variables)
    try:
        with fast_gradients(prepared.model), folded_norms(prepared.model):
            losses = list(_losses(prepared, stage, rates, weights, progress))
    finally:
        assign(variables, before)
    return suggest_rates(stage.name, rates[: len(losses)], losses, steps=steps)


def suggest_rates(stage: str, rates: list[float], losses: list[float], *, steps: int) -> RateTest:
    """Suggest rates from smoothed losses.

    Args:
        stage: Name of the stage.
        rates: Of the steps taken, rising.
        losses: Smoothed, one a step.
        steps: Steps that were to be taken.

    Raises:
        RunError: If the loss runs away at once, or falls nowhere.
    """
    if len(losses) < 5:
        raise RunError(
            f"the loss runs away at once, at rates from {rates[0] if rates else 0:.1e}. Check pixels.contract."
        )
    lowest = int(np.argmin(losses))
    if losses[lowest] > (1 - _LEAST_FALL) * losses[0]:
        raise RunError(
            f"the loss falls at no rate from {rates[0]:.1e} to {rates[-1]:.1e} by more than its noise. Take more --steps, or "
            "a larger train.batch_size."
        )
    slopes = np.gradient(np.array(losses[: max(lowest + 1, 3)]), np.log(rates[: max(lowest + 1, 3)]))
    suggested = rates[int(np.argmin(slopes))]
    at_most = rates[lowest] / 10
    return RateTest(
        stage, tuple(rates), tuple(losses), min(suggested, at_most), at_most, has_run_away=len(losses) < steps
    )


def _open(plan: Plan, index: PhotoIndex, progress: Progress) -> StageContext:
    """What a run has before its first stage."""
    prepare_tensorflow(seed=plan.config.seed, is_deterministic=plan.config.deterministic)
    precision = resolve_precision(plan.config.precision)
    classifier = build_classifier(plan.network, len(index.classes), precision)
    load_backbone_weights(plan, classifier.backbone, progress.say)
    photos = PixelStore(plan.config, progress, splits=(TRAIN, VALID)).bind(index)
    return StageContext(
        plan=plan,
        classifier=classifier,
        contract=contract_of(plan.config.pixels, plan.spec),
        precision=precision,
        augmenter=build_augmenter(plan),
        train=photos.split(TRAIN),
        valid=photos.split(VALID),
        classes=index.classes,
        held_out=frozenset(photo.sha256 for photo in index.photos if photo.split != TRAIN),
        cache=open_cache(progress.say),
        progress=progress,
    )


def _losses(
    prepared: Prepared, stage: FitStage, rates: list[float], weights: Any, progress: Progress
) -> Iterator[float]:
    """Smoothed loss of each step, until it runs away."""
    model = prepared.model
    optimizer = build_optimizer(stage.optimizer, model.trainable_weights, prepared.freezing.rates)
    model.compile(optimizer=optimizer, loss=build_loss(stage))
    average, lowest = 0.0, math.inf
    batches = prefetched(_endless(prepared.feed))
    try:
        for step, (rate, batch) in enumerate(zip(rates, batches, strict=False), start=1):
            optimizer.learning_rate.assign(rate)
            progress.show(f"rate {rate:.1e}", step, len(rates))
            loss = float(model.train_on_batch(batch.x, batch.y, sample_weights(batch.y, weights)))
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            smooth = average / (1 - _SMOOTHING**step)  # as if there had been steps before the first
            if not math.isfinite(smooth) or smooth > _RUN_AWAY * lowest:
                return
            lowest = min(lowest, smooth)
            yield smooth
    finally:
        batches.close()
        progress.close()


def _endless(feed: Feed) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from feed.batches(epoch)
        epoch += 1
