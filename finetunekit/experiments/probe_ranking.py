"""Which frozen backbone, pixel contract and size tell this data's classes apart best: probes ranked by nested cross-validation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.pixel_contract import fitting_of
from finetunekit.config.plan import EXECUTOR, Plan
from finetunekit.data.decoded_photos import PixelStore
from finetunekit.errors import FinetuneKitError, RunError
from finetunekit.evaluation.probe_features import ProbeFeatures, open_probe
from finetunekit.models.linear_probe.cross_validation import NestedScores, Recipe, cross_validate
from finetunekit.statistics import Interval, mean_interval, photo_log_losses, wilson_interval
from finetunekit.system.formatting import one_line
from finetunekit.system.progress import Progress
from finetunekit.types import TRAIN, VALID

if TYPE_CHECKING:
    from finetunekit.data.index import PhotoIndex

#: Splits that a ranking may look at. Never the test split: a backbone chosen by it would be scored on what it was chosen by.
SPLITS_USED = (TRAIN, VALID)


@dataclass(frozen=True, slots=True)
class ProbeScore:
    """What nested cross-validation says of one choice.

    Attributes:
        correct: Photos right when left out.
        photos: Photos in all.
        accuracy: Their share, in [0, 1].
        accuracy_interval: Wilson, 95 %.
        log_loss: Mean over photos left out, in nats.
        log_loss_interval: Bootstrap-t, 95 %.
    """

    correct: int
    photos: int
    accuracy: float
    accuracy_interval: Interval
    log_loss: float
    log_loss_interval: Interval


@dataclass(frozen=True, slots=True)
class RankedProbe:
    """One backbone, contract, size and fit.

    Attributes:
        backbone: Registered name; several joined by `+`.
        size_px: Side of the square input.
        contract: `pixels.contract` that feeds it.
        fit: `pixels.fit` of its photos.
        crop_pct: `pixels.crop_pct`; None where nothing is cut off.
        score: By nested cross-validation.
        penalty: Median of those chosen inside the outer folds.
        channels: Numbers a photo.
        feature_s: Seconds that its features took, its start included; nearly 0 where they were in the cache.
        fit_s: Seconds of the cross-validation.
        size_mb: Of the backbone's weights, float32.
    """

    backbone: str
    size_px: int
    contract: str
    fit: str
    crop_pct: float | None
    score: ProbeScore
    penalty: float
    channels: int
    feature_s: float
    fit_s: float
    size_mb: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Every candidate, best first.

    Attributes:
        ranked: By log loss.
        chosen: Score of the whole procedure: in each outer fold the best candidate is chosen anew by the folds inside it, and scored on
            photos that neither its penalty nor that choice has seen. This is the winner's honest figure; its own row is the least of
            several and so a little too good.
        left_out: Candidate → why it was not tried.
        classes: Class names.
        stand_in: The sentence that says so if these are not the user's photos.
    """

    ranked: tuple[RankedProbe, ...]
    chosen: ProbeScore
    left_out: dict[str, str]
    classes: tuple[str, ...]
    stand_in: str | None


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate: its row, and what its cross-validation left."""

    row: RankedProbe
    nested: NestedScores


def rank_probes(
    plans: Sequence[Plan], index: PhotoIndex, progress: Progress, *, folds: int = 5, left_out: dict[str, str]
) -> Ranking:
    """Rank plans that differ in backbone, size, fit and pixel contract; heads and stages do not matter.

    Args:
        plans: The candidates.
        index: Photos of all of them. Training and validation photos are used together, test photos are not.
        progress: Says what is under way.
        folds: Outer and inner folds.
        left_out: Candidates that did not come so far; those that fail here are added, on a copy.

    Raises:
        RunError: If no candidate is left.
    """
    tried: list[Tried] = []
    problems = dict(left_out)
    labels = np.concatenate([index.labels(split) for split in SPLITS_USED])
    for number, found in _each(plans, index, progress, folds):
        if isinstance(found, Tried):
            tried.append(found)
            continue
        name = _plan_words(plans[number])
        problems[name] = one_line(found)
        progress.say(f"left out: {name}: {problems[name]}")
    if not tried:
        reasons = "; ".join(f"{name}: {why}" for name, why in problems.items())
        raise RunError(f"no backbone could be probed. {reasons}")
    return ranking_of(tried, labels, index.classes, left_out=problems, stand_in=index.stand_in)


def _each(
    plans: Sequence[Plan], index: PhotoIndex, progress: Progress, folds: int
) -> Iterator[tuple[int, Tried | Exception]]:
    """Position of each plan and what came of it, in this process or where the plans say."""
    if EXECUTOR in plans[0].config.model_fields_set:
        from finetunekit.experiments.probe_jobs import try_elsewhere

        found = dict(try_elsewhere(plans, progress, folds=folds))
        yield from sorted(found.items())  # in one order, whatever was ready first
        return
    decoded: dict[tuple[object, ...], PixelStore] = {}
    for number, plan in enumerate(plans):
        progress.say(f"probe {number + 1} of {len(plans)}: {_plan_words(plan)}")
        try:
            yield number, try_probe(plan, index, progress, folds=folds, decoded=decoded)
        except (FinetuneKitError, ValueError) as exc:
            yield number, exc


def _plan_words(plan: Plan) -> str:
    pixels = plan.config.pixels
    return _words(plan.backbone.name, pixels.size_px, fit_words(pixels.fit, pixels.crop_pct), pixels.contract)


def ranking_of(
    tried: Sequence[Tried],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    left_out: dict[str, str],
    stand_in: str | None,
) -> Ranking:
    """Candidates by log loss, and the score of choosing among them; the arguments are those of `Ranking`."""
    ranked = sorted(tried, key=lambda one: one.row.score.log_loss)
    chosen = score_of(choose_anew([one.nested for one in tried]), labels)
    return Ranking(tuple(one.row for one in ranked), chosen, left_out, classes, stand_in)


def _words(backbone: str, size_px: int, fit: str, contract: str) -> str:
    """How messages name a candidate."""
    return f"{backbone}, {size_px} px, {fit}, pixels {contract}"


def fit_words(fit: str, crop_pct: float | None) -> str:
    """How a photo becomes the square: `stretch`, `pad`, `crop .875`."""
    return fit if crop_pct is None else f"{fit} {crop_pct:.3g}".replace(" 0.", " .")


def candidate_words(row: RankedProbe) -> str:
    """How messages name a candidate that was tried."""
    return _words(row.backbone, row.size_px, fit_words(row.fit, row.crop_pct), row.contract)


def try_probe(
    plan: Plan,
    index: PhotoIndex,
    progress: Progress,
    *,
    folds: int,
    decoded: dict[tuple[object, ...], PixelStore] | None = None,
) -> Tried:
    """Score one candidate.

    Args:
        plan: The candidate.
        index: Its photos.
        progress: Says what is under way.
        folds: Outer and inner folds.
        decoded: Pixels by how photos become the square; those decoded here are added.

    Raises:
        FinetuneKitError: As `open_probe`.
        ValueError: If the photos cannot be dealt to so many folds.
    """
    decoded = {} if decoded is None else decoded
    labels = np.concatenate([index.labels(split) for split in SPLITS_USED])
    started = time.perf_counter()
    pixels = plan.config.pixels
    how = tuple(fitting_of(pixels).values())
    if how not in decoded:
        decoded[how] = PixelStore(plan.config, progress, splits=SPLITS_USED).bind(index)
    probe = open_probe(plan, index, progress, photos=decoded[how])
    features = np.concatenate([probe.split(split)[0] for split in SPLITS_USED])
    groups = [group for split in SPLITS_USED for group in probe.groups(split)]
    ready = time.perf_counter()
    count = progress.counter("cross-validation, outer folds")
    recipe = Recipe(folds=folds, seed=plan.config.seed)
    nested = cross_validate(features, labels, probe.num_classes, recipe, groups=groups, count=count)
    row = RankedProbe(
        backbone=plan.backbone.name,
        size_px=pixels.size_px,
        contract=pixels.contract,
        fit=pixels.fit,
        crop_pct=pixels.crop_pct,
        score=score_of(nested.probabilities, labels),
        penalty=float(np.median(nested.penalties)),
        channels=probe.channels,
        feature_s=round(ready - started, 1),
        fit_s=round(time.perf_counter() - ready, 1),
        size_mb=round(_weights_bytes(probe) / 1e6, 1),
    )
    return Tried(row, nested)


def _weights_bytes(probe: ProbeFeatures) -> int:
    return 4 * int(probe.pooled.prefix.count_params())


def choose_anew(nested: Sequence[NestedScores]) -> NDArray[np.float64]:
    """Out-of-fold probabilities of the candidate that the inner folds of each outer fold favour, `(photos, classes)`.

    Args:
        nested: Of each candidate, on the same folds.
    """
    fold = nested[0].fold
    probabilities = np.zeros_like(nested[0].probabilities)
    for k in range(len(nested[0].inner_losses)):
        best = min(nested, key=lambda one: one.inner_losses[k])
        probabilities[fold == k] = best.probabilities[fold == k]
    return probabilities


def score_of(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> ProbeScore:
    """Score of probabilities `(photos, classes)` of photos that were left out."""
    correct, losses = int((probabilities.argmax(axis=1) == labels).sum()), photo_log_losses(probabilities, labels)
    return ProbeScore(
        correct=correct,
        photos=len(labels),
        accuracy=correct / len(labels),
        accuracy_interval=wilson_interval(correct, len(labels)),
        log_loss=float(losses.mean()),
        log_loss_interval=mean_interval(losses, bounds=(0.0, np.inf)),
    )
