"""Would more photos help? A probe's errors over the number of its training photos, from features that are there already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.linear_probe.linear import fit_linear
from finetunekit.models.linear_probe.scaling import FloatArray, IntArray
from finetunekit.statistics import Interval, stratified_folds
from finetunekit.system.threads import one_thread

SHARES = (0.25, 0.5, 1.0)
"""Parts of the photos of each class that are trained on."""
MOST_PHOTOS = 2000
"""More are drawn from: the slope needs no more, and the fits would take minutes."""
_FOLDS, _REPLICATES, _LEVEL = 5, 1000, 0.95
_LEAST = 1e-6  # an error of 0 has no logarithm


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """Errors of a probe on photos that it has not seen, over how many of each class it was trained on.

    Attributes:
        photos: Training photos at each of `SHARES`, on average over folds.
        errors: Mean of one minus the probability of the true class at each, in [0, 1]: the share it would get wrong if it drew its
            answers from its own probabilities. It is smoother over few photos than the share that it gets wrong.
        slope: b where errors fall as photos to the power of minus b.
        interval: Of b, 95 %, over photos.
        wrong: Photos of each class, out of fold and with all others to train on, that were taken for another, `(classes,)`.
        of: Photos of each class, `(classes,)`.
        probabilities: Out of fold, of all photos that were used, `(photos, classes)`.
        used: Their positions, `(photos,)`.
    """

    photos: tuple[float, ...]
    errors: tuple[float, ...]
    slope: float
    interval: Interval
    wrong: tuple[int, ...]
    of: tuple[int, ...]
    probabilities: FloatArray
    used: IntArray

    @property
    def is_rising(self) -> bool:
        """Whether it was shown that more photos mean fewer errors."""
        return self.interval.low > 0.0

    def times_to_halve(self) -> tuple[float, float, float]:
        """How many times the photos it takes to halve the errors: best guess, lower and upper end; infinite where it is not shown."""
        low, high = self.interval.low, self.interval.high
        return _times(self.slope), _times(high), _times(low)


def _times(slope: float) -> float:
    return float(2.0 ** (1.0 / slope)) if slope > 0.03 else float("inf")  # 2 to the 33 is not a number of photos


@one_thread()
def measure_learning_curve(
    features: NDArray[np.floating],
    labels: IntArray,
    classes: int,
    *,
    penalty: float,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    count: Callable[[int, int], None] | None = None,
) -> LearningCurve:
    """Fit probes on parts of the photos and score each photo by those that have not seen it.

    Args:
        features: `(photos, channels)`.
        labels: `(photos,)`, integers in [0, classes).
        classes: At least 2.
        penalty: Of every fit: the one that was chosen with all photos, which favours the larger parts a little.
        groups: A name for each photo; photos of one name are on one side of every fold. None: each photo by itself.
        seed: Of folds, parts and the bootstrap.
        count: Told after each fit.

    Returns:
        The curve; its interval is a percentile bootstrap over photos.

    Raises:
        ValueError: If the photos are too few to leave any out.

    Source: a power law for learning curves, Hestness et al. 2017, arXiv:1712.00409; Efron & Tibshirani 1993, chapter 13 (percentiles).
    """
    rng = np.random.default_rng(seed)
    used = np.sort(rng.permutation(len(labels))[:MOST_PHOTOS])
    features, labels = np.asarray(features)[used], labels[used]
    names = None if groups is None else [groups[i] for i in used]
    fold = stratified_folds(labels, _FOLDS, groups=names, seed=seed)
    number = int(fold.max()) + 1
    misses = np.zeros((len(SHARES), len(labels)))
    trained = np.zeros(len(SHARES))
    probabilities = np.zeros((len(labels), classes))
    for k in range(number):
        order = _interleaved(np.flatnonzero(fold != k), labels, rng)
        out = np.flatnonzero(fold == k)
        for i, share in enumerate(SHARES):
            part = order[: max(classes, round(share * len(order)))]
            fit = fit_linear(features[part], labels[part], classes, penalty=penalty, solver="logistic")
            found = fit.probabilities(features[out])
            misses[i, out] = 1.0 - found[np.arange(len(out)), labels[out]]
            trained[i] += len(part) / number
            if i == len(SHARES) - 1:
                probabilities[out] = found
            if count:
                count(k * len(SHARES) + i + 1, number * len(SHARES))
    draws = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=_REPLICATES) / len(labels)
    slopes = _slopes(trained, draws @ misses.T)
    low, high = np.quantile(slopes, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    errors = misses.mean(axis=1)
    answers = probabilities.argmax(axis=1)
    return LearningCurve(
        photos=tuple(trained.tolist()),
        errors=tuple(errors.tolist()),
        slope=float(_slopes(trained, errors[None])[0]),
        interval=Interval(float(low), float(high), _LEVEL, method="percentile bootstrap over photos"),
        wrong=tuple(int(((labels == c) & (answers != c)).sum()) for c in range(classes)),
        of=tuple(int((labels == c).sum()) for c in range(classes)),
        probabilities=probabilities,
        used=used,
    )


def _interleaved(photos: IntArray, labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Photos in an order of which every beginning holds the classes in their proportions."""
    shuffled = rng.permutation(photos)
    place = np.zeros(len(shuffled))
    for label in np.unique(labels[shuffled]):
        members = np.flatnonzero(labels[shuffled] == label)
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return shuffled[np.argsort(place, kind="stable")]


def _slopes(photos: FloatArray, errors: FloatArray) -> FloatArray:
    """b of each row of errors `(rows, sizes)`, by least squares on logarithms."""
    x = np.log(photos) - np.log(photos).mean()
    y = np.log(np.maximum(errors, _LEAST))
    slopes: FloatArray = -(y @ x) / (x @ x)
    return slopes
