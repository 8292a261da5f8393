"""Weighing penalties, and scores that the weights have not seen: stratified cross-validation that keeps groups together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.linear_probe.linear import (
    Fitter,
    LinearFit,
    Mixture,
    ProbeFeatures,
    Solver,
    StreamedFitter,
    check_probe_labels,
    fit_linear,
    open_fitter,
)
from finetunekit.models.linear_probe.scaling import FloatArray, IntArray
from finetunekit.models.linear_probe.streamed import FeatureRows
from finetunekit.statistics import photo_log_losses, softmax, stratified_folds
from finetunekit.system.formatting import counted
from finetunekit.system.threads import one_thread

#: Two a decade, strongest first, so that each solution starts the next. Channels are on one scale, so the range fits any backbone.
PENALTIES: tuple[float, ...] = tuple(float(10.0 ** (1 - i / 2)) for i in range(15))  # 10 … 1e-6
#: Log loss has one minimum over the penalty but for noise: the search is over after this many weaker penalties without a better one, as
#: soon as the last is further than `NEGLIGIBLE` nats from the best one over all photos, which leaves little weight to those that follow.
PATIENCE, NEGLIGIBLE = 2, 2.0
#: Up to so many photos none weaker than this is tried: its large weights, of photos that all are right, would rule the average.
FEW, WEAKEST_OF_FEW = 1000, 1e-4
#: Bayesian bootstraps over photos, of which weights are the mean.
BOOTSTRAPS = 400
#: Least weight: a penalty of less is not fitted on all the photos.
LEAST_WEIGHT = 0.01

#: Called with (fits done, fits at most).
Count = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PenaltyChoice:
    """What cross-validation says of penalties.

    Attributes:
        penalty: The one with the least log loss.
        log_loss: Its mean log loss over left-out photos, in nats. It was chosen for being low, so it is no score.
        mixture: The penalties whose fits are averaged, with their weights, strongest first.
        folds: Number of folds that were left out in turn.
        tried: Penalty and log loss of each that was tried, strongest first.
        repeats: How often the folds were dealt.
    """

    penalty: float
    log_loss: float
    mixture: tuple[tuple[float, float], ...]
    folds: int
    tried: tuple[tuple[float, float], ...]
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a probe is fitted, whatever photos it is fitted on.

    Attributes:
        solver: `logistic` or `ridge`.
        penalty: One, or several with their weights. None: weighed by cross-validation.
        folds: Of that cross-validation; fewer where there are fewer groups.
        seed: Of the folds.
        repeats: How often it is repeated with other folds, whose losses are averaged.
        views: How many rows each photo has: all photos as they are, then all of them seen otherwise, and so on.
    """

    solver: Solver = "logistic"
    penalty: float | Mixture | None = None
    folds: int = 5
    seed: int = 0
    repeats: int = 1
    views: int = 1


@one_thread()
def choose_penalty(
    features: ProbeFeatures,
    labels: IntArray,
    classes: int,
    recipe: Recipe = Recipe(),
    *,
    groups: Sequence[str] | None = None,
    count: Count | None = None,
) -> PenaltyChoice:
    """Weigh penalties by cross-validated log loss on these photos alone.

    A few hundred photos do not tell apart penalties that are a factor of ten from each other, and the best of them on these photos is not
    the best on others. So the fits of several are averaged, each as probable as it is to lose least on photos like these.

    Features that stay on disk are those of very many photos, whose log loss one fold tells well enough: of them one is left out.

    Args:
        features: `(photos, channels)` float.
        labels: `(photos,)`, integers in [0, classes).
        classes: At least 2.
        recipe: Solver, folds and their seed.
        groups: A name for each photo; photos of one name are on one side of every fold. None: each photo by itself.
        count: Told after each fit.

    Raises:
        ValueError: If an argument is impossible, or there are too few photos to leave any out.

    Source: Yao, Vehtari, Simpson & Gelman 2018, "Using stacking to average Bayesian predictive distributions", section 3.4 (pseudo-BMA with
        the Bayesian bootstrap), arXiv:1704.02030.
    """
    check_probe_labels(labels, len(features), classes)
    if not isinstance(features, FeatureRows):
        check_leaving_out(labels, recipe, groups=groups)
    left_out: list[NDArray[np.bool_]] = []
    for repeat in range(recipe.repeats):
        fold = _deal(features, labels, recipe, groups, seed=recipe.seed + repeat)
        left_out += [fold == k for k in range(int(fold.max()) + 1)]
    folds, repeats = int(fold.max()) + 1, recipe.repeats
    if isinstance(features, FeatureRows):
        left_out, folds, repeats = left_out[:1], 1, 1
    fitters = [open_fitter(features[~is_out], labels[~is_out], classes, recipe.solver) for is_out in left_out]
    often = np.sum(left_out, axis=0)
    is_asked = often[: len(labels) // recipe.views] > 0  # of very many photos only one fold is
    search = _search(fitters, left_out, features, labels, count)
    losses = dict(
        _until_worse(search, lambda rows: (rows / often.clip(1)).reshape(recipe.views, -1).mean(axis=0)[is_asked])
    )
    tried = tuple((penalty, float(each.mean())) for penalty, each in losses.items())
    penalty, log_loss = min(tried, key=lambda pair: pair[1])
    names = None if groups is None else np.asarray(groups)[: len(is_asked)][is_asked]
    mixture = _weigh(tuple(losses), _by_group(np.array(list(losses.values())), names), seed=recipe.seed)
    return PenaltyChoice(penalty, log_loss, mixture, folds, tried, repeats)


def _deal(
    features: ProbeFeatures, labels: IntArray, recipe: Recipe, groups: Sequence[str] | None, *, seed: int
) -> IntArray:
    """Fold of each photo. Very many photos are dealt group by group: chance alone gives each fold its share of every class."""
    if not isinstance(features, FeatureRows):
        return stratified_folds(labels, recipe.folds, groups=groups, seed=seed)
    places = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    dealt: IntArray = np.random.default_rng(seed).permutation(int(places.max()) + 1)[places] % recipe.folds
    return dealt


def check_leaving_out(labels: IntArray, recipe: Recipe, *, groups: Sequence[str] | None = None) -> None:
    """Say that a penalty cannot be chosen on so few photos; needs no features.

    Args:
        labels: `(photos,)`, integers from 0.
        recipe: Where it gives the penalty, none is chosen.
        groups: As in `choose_penalty`.

    Raises:
        ValueError: If fewer than two photos would be left to fit on.
    """
    if recipe.penalty is not None:
        return
    try:
        fold = stratified_folds(labels, recipe.folds, groups=groups, seed=recipe.seed)
    except ValueError as exc:
        raise _too_few(labels, groups) from exc
    if len(labels) - int(np.bincount(fold).max()) < 2:
        raise _too_few(labels, groups)


def _too_few(labels: IntArray, groups: Sequence[str] | None) -> ValueError:
    number = len(labels if groups is None else set(groups))
    copies = "" if number == len(labels) else f" in {counted(number, 'group')}"
    return ValueError(
        f"{counted(len(labels), 'training photo')}{copies} cannot be cross-validated; give `penalty:` or more photos"
    )


def _search(
    fitters: Sequence[Fitter | StreamedFitter],
    left_out: Sequence[NDArray[np.bool_]],
    features: ProbeFeatures,
    labels: IntArray,
    count: Count | None,
) -> Iterator[tuple[float, FloatArray]]:
    """Penalties, strongest first, with the sum of each row's log losses whenever it was left out."""
    for position, penalty in enumerate(PENALTIES):
        rows: FloatArray = np.zeros(len(labels))
        for k, (fitter, is_out) in enumerate(zip(fitters, left_out, strict=True)):
            probabilities = fitter.fit(penalty).probabilities(features[is_out])
            rows[is_out] += photo_log_losses(probabilities, labels[is_out])
            if count:
                count(position * len(fitters) + k + 1, len(PENALTIES) * len(fitters))
        yield penalty, rows


def _until_worse(
    search: Iterator[tuple[float, FloatArray]], by_photo: Callable[[FloatArray], FloatArray]
) -> Iterator[tuple[float, FloatArray]]:
    """Penalties with the log loss of each photo, as far as it is worth searching."""
    best, worse = float("inf"), 0
    for penalty, rows in search:
        losses = by_photo(rows)
        yield penalty, losses
        total = float(losses.sum())
        best, worse = (total, 0) if total < best else (best, worse + 1)
        is_over = worse >= PATIENCE and total - best > NEGLIGIBLE
        if is_over or (penalty <= WEAKEST_OF_FEW and len(losses) <= FEW):
            return


def _by_group(losses: FloatArray, groups: NDArray[np.str_] | None) -> FloatArray:
    """Losses of photos, `(penalties, photos)`, summed over those of each group, which stand or fall together."""
    if groups is None:
        return losses
    place = np.unique(groups, return_inverse=True)[1]
    return np.array([np.bincount(place, weights=each) for each in losses])


def _weigh(penalties: Sequence[float], losses: FloatArray, *, seed: int) -> tuple[tuple[float, float], ...]:
    """Penalties that bear weight: their likelihoods in each bootstrap, averaged over bootstraps of losses `(penalties, photos)`."""
    generator = np.random.default_rng(seed)
    shares: FloatArray = np.zeros(len(penalties))
    for _ in range(BOOTSTRAPS):
        counts: FloatArray = generator.exponential(size=(losses.shape[1],))  # how often each photo is drawn
        shares += softmax(-(losses @ counts)[None] / counts.mean())[0]
    shares[shares < LEAST_WEIGHT * BOOTSTRAPS] = 0.0
    return tuple(
        (penalty, float(share / shares.sum())) for penalty, share in zip(penalties, shares, strict=True) if share
    )


def fit_chosen(
    features: ProbeFeatures,
    labels: IntArray,
    classes: int,
    recipe: Recipe = Recipe(),
    *,
    groups: Sequence[str] | None = None,
    count: Count | None = None,
) -> tuple[LinearFit, PenaltyChoice | None]:
    """Fit with the recipe's penalty, or else with those that `choose_penalty` weighs on these photos.

    The fits of several penalties become one: their weights and biases, averaged. Its probabilities are then the geometric mean of theirs,
    brought to a sum of 1.

    Args:
        features: `(photos, channels)` float.
        labels: `(photos,)`, integers in [0, classes).
        classes: At least 2.
        recipe: Solver, penalty, folds and their seed.
        groups: As in `choose_penalty`.
        count: As in `choose_penalty`.

    Returns:
        The fit on all the photos, and the choice; None where the recipe gives the penalty.

    Raises:
        ValueError: As `choose_penalty`.
    """
    asked = recipe.penalty
    if isinstance(asked, int | float):
        return fit_linear(features, labels, classes, penalty=asked, solver=recipe.solver), None
    choice = None
    if asked is None:
        choice = choose_penalty(features, labels, classes, recipe, groups=groups, count=count)
        asked = choice.mixture
    return _fit_mixture(features, labels, classes, asked, recipe.solver), choice


@one_thread()
def _fit_mixture(
    features: ProbeFeatures, labels: IntArray, classes: int, mixture: Mixture, solver: Solver
) -> LinearFit:
    fitter = open_fitter(features, labels, classes, solver)
    kernel: FloatArray | float = 0.0
    bias: FloatArray | float = 0.0
    for penalty, share in mixture:
        fit = fitter.fit(penalty)
        kernel, bias = kernel + share * fit.kernel.astype(np.float64), bias + share * fit.bias.astype(np.float64)
    return LinearFit(np.asarray(kernel, np.float32), np.asarray(bias, np.float32), solver, mixture)


@dataclass(frozen=True, slots=True)
class NestedScores:
    """Nested cross-validation of one probe.

    Attributes:
        probabilities: Out of fold, `(photos, classes)` float64.
        fold: Outer fold of each photo, `(photos,)` int64.
        inner_losses: For each outer fold, the log loss of the penalty chosen inside it, in nats: what a choice among several backbones
            may go by without having seen the fold.
        penalties: Chosen inside each outer fold.
    """

    probabilities: FloatArray
    fold: IntArray
    inner_losses: tuple[float, ...]
    penalties: tuple[float, ...]


def cross_validate(
    features: ProbeFeatures,
    labels: IntArray,
    classes: int,
    recipe: Recipe = Recipe(),
    *,
    groups: Sequence[str] | None = None,
    count: Count | None = None,
) -> NestedScores:
    """Score each photo by a probe that has not seen it; the penalty is chosen anew inside each outer fold.

    Args:
        features: `(photos, channels)` float.
        labels: `(photos,)`, integers in [0, classes).
        classes: At least 2.
        recipe: Solver, penalty, folds (outer and inner) and their seed.
        groups: As in `choose_penalty`.
        count: Called with (outer folds done, outer folds).

    Raises:
        ValueError: As `choose_penalty`.

    Source: Varma & Simon 2006, BMC Bioinformatics 7:91 (nested cross-validation).
    """
    check_probe_labels(labels, len(features), classes)
    fold = _deal(features, labels, recipe, groups, seed=recipe.seed)
    number = int(fold.max()) + 1
    probabilities, losses, penalties = np.zeros((len(labels), classes)), [], []
    for k in range(number):
        is_kept = fold != k
        kept = None if groups is None else [group for group, is_in in zip(groups, is_kept, strict=True) if is_in]
        fit, choice = fit_chosen(features[is_kept], labels[is_kept], classes, recipe, groups=kept)
        probabilities[~is_kept] = fit.probabilities(features[~is_kept])
        losses.append(choice.log_loss if choice else float("nan"))
        penalties.append(fit.penalty)
        if count:
            count(k + 1, number)
    return NestedScores(probabilities, fold, tuple(losses), tuple(penalties))
