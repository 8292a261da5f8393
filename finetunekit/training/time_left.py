"""About how long the stages after a probe will take, from how fast its photos passed through the network; nothing is computed for it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetunekit.models.feature_cache import EXTRACTION_BATCH
from finetunekit.models.flops import count_uses, total_multiply_adds
from finetunekit.models.freezing import freeze_layers
from finetunekit.models.frozen_prefix import find_cut
from finetunekit.system.formatting import show_duration
from finetunekit.training.prepare_stage import draws_views
from finetunekit.training.stage_features import bank_size

if TYPE_CHECKING:
    from finetunekit.training.stage_context import Prepared, StageContext

_STEP_PASSES = 3
"""Forward passes that a training step takes: gradients of inputs and of weights cost about as much again each."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast this machine is with this network.

    Attributes:
        photo_s: Seconds of one photo through the whole network.
        graphs_s: Seconds that checking and tracing its graphs took.
    """

    photo_s: float
    graphs_s: float

    def stage_s(self, context: StageContext, number: int) -> float:
        """Seconds of one stage, its features included; the longest that one may take that is tried on folds first.

        Freezing flags are afterwards those of the stage.
        """
        plan, logits = context.plan, context.classifier.logits
        stage, config = plan.stages[number].config, plan.config
        freeze_layers(context.classifier, plan.stages[number])
        cut = None if config.cache.mode == "off" else find_cut(logits)
        whole = total_multiply_adds(count_uses(logits))
        before = total_multiply_adds(count_uses(cut.prefix)) / max(whole, 1) if cut else 0.0
        after, train, valid = 1.0 - before, len(context.train.labels), len(context.valid.labels)
        is_augmented = context.augmenter is not None and draws_views(plan, number)
        is_fresh = is_augmented and config.cache.mode != "bank"
        views = 0 if is_fresh else bank_size(plan, number, train) if is_augmented else 1
        draw = _STEP_PASSES * after + (before if is_fresh else 0.0)
        epoch = (config.train.draws_per_epoch or train) * draw + valid * after
        fits = max(1, stage.cross_fit or 1) if stage.kind == "fit" else 1
        passes = (views * train + valid) * before + stage.epochs * epoch * fits
        return passes * self.photo_s + (1 + fits) * self.graphs_s

    def words(self, context: StageContext, numbers: Sequence[int]) -> str:
        """`about 1 min 20 s`, of these stages; `at most` where one of them may be left out."""
        stages = [context.plan.stages[number].config for number in numbers]
        most = "at most " if any(stage.kind == "fit" and stage.cross_fit for stage in stages) else ""
        return f"{most}about {_show(sum(self.stage_s(context, number) for number in numbers))}"


def pace_of(prepared: Prepared, graphs_s: float) -> Pace | None:
    """What a stage that is over has told; None where its features came from the cache."""
    batch_s = prepared.extract.batch_s if prepared.extract else []
    return Pace(statistics.fmean(batch_s) / EXTRACTION_BATCH, graphs_s) if batch_s else None


def _show(seconds: float) -> str:
    """No more digits than an estimate has: `40 s`, `1 min 20 s`, `1 h 10 min`."""
    step = 5 if seconds < 60 else 10 if seconds < 600 else 60 if seconds < 3600 else 600
    return show_duration(max(1, round(seconds / step)) * step)
