"""Linear classifiers on frozen features, fitted by scikit-learn, or in passes over what stays on disk, in the form of a Dense layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.linear_probe.scaling import FloatArray, IntArray, row_blocks, scale_features
from finetunekit.models.linear_probe.streamed import FeatureRows, StreamedLogistic
from finetunekit.statistics import fit_temperature, softmax
from finetunekit.system.threads import one_thread

Solver = Literal["logistic", "ridge"]
#: `(photos, channels)` float: in memory, or rows of a mapped file.
ProbeFeatures: TypeAlias = NDArray[Any] | FeatureRows
#: Penalties with their weights, which add up to 1.
Mixture: TypeAlias = Sequence[tuple[float, float]]
#: Stops where no component of the mean log loss's gradient is above this. Ten times less takes 1.2 to 1.8 times as long and moves the
#: cross-validated log loss of 480 to 3600 photos by at most 0.0003 nats.
GRADIENT_TOLERANCE = 1e-5
MAX_ITERATIONS = 10_000
#: Of a class without training photos: about one in 100,000, so that a photo of it costs a finite log loss.
ABSENT_LOGIT = -11.5


@dataclass(frozen=True, slots=True)
class LinearFit:
    """A fitted classifier in the form of an ordinary Dense layer; standardisation is folded into it.

    Attributes:
        kernel: `(channels, classes)` float32.
        bias: `(classes,)` float32.
        solver: `logistic` or `ridge`.
        mixture: L2 penalties it was fitted with, see `fit_linear`, and what each counts for.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    solver: Solver
    mixture: Mixture

    @property
    def penalty(self) -> float:
        """The one that counts most."""
        return max(self.mixture, key=lambda pair: pair[1])[0]

    def logits(self, features: ProbeFeatures) -> FloatArray:
        """Features `(photos, channels)` → logits `(photos, classes)` float64."""
        kernel = self.kernel.astype(np.float64)
        values: FloatArray = np.empty((len(features), kernel.shape[1]))
        for rows in row_blocks(len(features)):
            values[rows] = features[rows].astype(np.float64) @ kernel + self.bias
        return values

    def probabilities(self, features: ProbeFeatures) -> FloatArray:
        """Features `(photos, channels)` → probabilities `(photos, classes)` float64, rows sum to 1."""
        return softmax(self.logits(features))


@one_thread()
def fit_linear(features: ProbeFeatures, labels: IntArray, classes: int, *, penalty: float, solver: Solver) -> LinearFit:
    """Fit a linear classifier.

    It minimises `mean loss + penalty / 2 · sum(kernel²)`, kernel being that of features on one scale (`scale_features`); the bias bears no
    penalty. Loss is the log loss (`logistic`) or half the squared distance to one-hot labels (`ridge`). In scikit-learn's terms, `C` of
    `LogisticRegression` is `1 / (photos · penalty)`, with two classes `2 / (photos · penalty)`, since it then has one column of weights,
    the difference of ours; `alpha` of `Ridge` is `photos · penalty`.

    Args:
        features: `(photos, channels)` float.
        labels: `(photos,)`, integers in [0, classes).
        classes: At least 2.
        penalty: Above 0.
        solver: `logistic` or `ridge`.

    Raises:
        ValueError: If an argument is impossible.
    """
    return open_fitter(features, labels, classes, solver).fit(penalty)


def open_fitter(features: ProbeFeatures, labels: IntArray, classes: int, solver: Solver) -> Fitter | StreamedFitter:
    """Training photos ready to be fitted with one penalty after another; the arguments are those of `fit_linear`.

    Raises:
        ValueError: If an argument is impossible.
    """
    if isinstance(features, FeatureRows):
        return StreamedFitter(features, labels, classes, solver)
    return Fitter(features, labels, classes, solver)


class StreamedFitter:
    """As `Fitter`, of features that stay on disk."""

    def __init__(self, features: FeatureRows, labels: IntArray, classes: int, solver: Solver) -> None:
        """Bring the features to one scale.

        Raises:
            ValueError: If an argument is impossible, or the solver reads features from memory.
        """
        check_probe_labels(labels, len(features), classes)
        if solver != "logistic":
            raise ValueError(f"features that stay on disk are fitted by `logistic`. Received: {solver}")
        self._present, places = np.unique(labels, return_inverse=True)
        self._classes = classes
        self._problem = StreamedLogistic(features, places, GRADIENT_TOLERANCE, MAX_ITERATIONS)

    def fit(self, penalty: float) -> LinearFit:
        """See `fit_linear`.

        Raises:
            ValueError: If the penalty is not a finite number above 0.
        """
        _check_penalty(penalty)
        kernel = np.zeros((len(self._problem.mean), self._classes))
        bias = np.full(self._classes, ABSENT_LOGIT)
        bias[self._present] = 0.0
        if len(self._present) > 1:
            weights, offsets = self._problem.fit(penalty)
            kernel[:, self._present] = weights / self._problem.deviation[:, None]
            bias[self._present] = offsets - self._problem.mean @ kernel[:, self._present]
        return LinearFit(kernel.astype(np.float32), bias.astype(np.float32), "logistic", ((penalty, 1.0),))


class Fitter:
    """Training photos on one scale, to be fitted with one penalty after another; each logistic solution starts the next."""

    def __init__(self, features: NDArray[Any], labels: IntArray, classes: int, solver: Solver) -> None:
        """Scale the features.

        Raises:
            ValueError: If an argument is impossible.
        """
        from sklearn.linear_model import LogisticRegression

        check_probe_labels(labels, len(features), classes)
        self._scaled = scale_features(features)
        self._labels, self._classes, self._solver = labels, classes, solver
        self._logistic = LogisticRegression(tol=GRADIENT_TOLERANCE, max_iter=MAX_ITERATIONS, warm_start=True)

    def fit(self, penalty: float) -> LinearFit:
        """See `fit_linear`.

        Raises:
            ValueError: If the penalty is not a finite number above 0.
        """
        _check_penalty(penalty)
        solve = self._solve_ridge if self._solver == "ridge" else self._solve_logistic
        kernel, bias = self._scaled.dense(*solve(penalty))
        return LinearFit(kernel, bias, self._solver, ((penalty, 1.0),))

    def _solve_logistic(self, penalty: float) -> tuple[FloatArray, FloatArray]:
        present = np.unique(self._labels)
        weights = np.zeros((self._classes, self._scaled.values.shape[1]))
        bias = np.full(self._classes, ABSENT_LOGIT)
        bias[present] = 0.0
        if len(present) > 1:
            columns = 2 if len(present) == 2 else 1
            self._logistic.set_params(C=columns / (len(self._labels) * penalty))
            found = self._logistic.fit(self._scaled.values, self._labels)
            shares = np.array([[-0.5], [0.5]]) if len(present) == 2 else np.eye(len(present))
            weights[present], bias[present] = shares @ found.coef_, shares @ found.intercept_
        return weights.T, bias

    def _solve_ridge(self, penalty: float) -> tuple[FloatArray, FloatArray]:
        """Ridge regression on one-hot labels, its scores scaled to logits.

        Ridge scores are no logits: a softmax over numbers near 0 and 1 is far too unsure. They are multiplied by the one number that
        minimises the log loss of the leave-one-out scores, which have a closed form. Copies of one photo among the training photos make
        that scale too sure.

        Source: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, equations 4.1 (one-hot labels) and 7.64 (leave-one-out
            by the hat matrix); the scale is a temperature, Guo et al. 2017, arXiv:1706.04599.
        """
        from scipy.linalg import solve_triangular
        from sklearn.linear_model import Ridge

        z, photos = self._scaled.values, len(self._labels)
        one_hot, alpha = np.eye(self._classes)[self._labels], photos * penalty
        mean = one_hot.mean(axis=0)  # (classes,)
        weights = Ridge(alpha, fit_intercept=False, copy_X=False, solver="cholesky").fit(z, one_hot - mean).coef_.T
        root = np.linalg.cholesky(z.T @ z + alpha * np.eye(z.shape[1]))
        residual = one_hot - mean
        for rows in row_blocks(photos):
            leverage = 1 / photos + (solve_triangular(root, z[rows].T, lower=True) ** 2).sum(axis=0)
            residual[rows] -= z[rows] @ weights
            residual[rows] /= np.maximum(1 - leverage, 1e-9)[:, None]
        scale = 1 / fit_temperature(one_hot - residual, self._labels).temperature
        return weights * scale, mean * scale


def _check_penalty(penalty: float) -> None:
    if not 0 < penalty < float("inf"):
        raise ValueError(f"penalty must be a finite number above 0. Received: {penalty}")


def check_probe_labels(labels: IntArray, photos: int, classes: int) -> None:
    """Refuse labels that do not fit.

    Raises:
        ValueError: If there are fewer than two classes, or labels are not `(photos,)` integers in [0, classes).
    """
    if classes < 2:
        raise ValueError(f"at least 2 classes are needed. Received: {classes}")
    is_integer = np.issubdtype(labels.dtype, np.integer)
    if labels.shape != (photos,) or not is_integer or photos == 0 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be {photos} integers in [0, {classes}). Received: {labels.dtype} {labels.shape}")
