"""Linear classifiers on frozen features: what a solver returns, and fitting one at a given penalty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.linear_probe.logistic import solve_logistic
from finetunekit.models.linear_probe.principal_axes import Axes, FloatArray, IntArray, find_axes, row_blocks
from finetunekit.models.linear_probe.ridge import solve_ridge

Solver = Literal["logistic", "ridge"]
#: Weights on the axes `(axes, classes)` and bias `(classes,)`, float64.
Solution = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, slots=True)
class LinearFit:
    """A fitted classifier in the form of an ordinary Dense layer; standardisation is folded into it.

    Attributes:
        kernel: `(channels, classes)` float32.
        bias: `(classes,)` float32.
        solver: `logistic` or `ridge`.
        penalty: Weight of the L2 penalty it was fitted with; see `fit_linear`.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    solver: Solver
    penalty: float

    def logits(self, features: NDArray[Any]) -> FloatArray:
        """Features `(photos, channels)` → logits `(photos, classes)` float64."""
        kernel = self.kernel.astype(np.float64)
        values: FloatArray = np.empty((len(features), kernel.shape[1]))
        for rows in row_blocks(len(features)):
            values[rows] = features[rows].astype(np.float64) @ kernel + self.bias
        return values

    def probabilities(self, features: NDArray[Any]) -> FloatArray:
        """Features `(photos, channels)` → probabilities `(photos, classes)` float64, rows sum to 1."""
        return softmax_rows(self.logits(features))


def fit_linear(features: NDArray[Any], labels: IntArray, classes: int, *, penalty: float, solver: Solver) -> LinearFit:
    """Fit a linear classifier.

    It minimises `mean loss + penalty / 2 · sum(kernel²)`, kernel being that of features on one scale (`axes.find_axes`); the bias bears no
    penalty. Loss is the log loss (`logistic`) or half the squared distance to one-hot labels (`ridge`, see `ridge.solve_ridge` for its
    softmax scale). scikit-learn's `C` is `1 / (photos · penalty)`.

    Args:
        features: `(photos, channels)` float.
        labels: `(photos,)`, integers in [0, classes).
        classes: At least 2.
        penalty: Above 0.
        solver: `logistic` or `ridge`.

    Raises:
        ValueError: If an argument is impossible.
    """
    check_probe_labels(labels, len(features), classes)
    if not 0 < penalty < float("inf"):
        raise ValueError(f"penalty must be a finite number above 0. Received: {penalty}")
    with one_thread():
        axes = find_axes(features)
        weights, bias = solve(axes, labels, classes, penalty, solver)
        kernel, dense_bias = axes.dense(weights, bias)
    return LinearFit(kernel, dense_bias, solver, penalty)


def solve(
    axes: Axes, labels: IntArray, classes: int, penalty: float, solver: Solver, start: Solution | None = None
) -> Solution:
    """Weights and bias on the axes; `start` is a solution for a penalty nearby, which saves iterations."""
    if solver == "ridge":
        return solve_ridge(axes, labels, classes, penalty)
    return solve_logistic(axes, labels, classes, penalty, start)


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


def softmax_rows(logits: NDArray[Any]) -> FloatArray:
    """Probabilities of logits, `(photos, classes)` float64."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    rows: FloatArray = shifted / shifted.sum(axis=1, keepdims=True)
    return rows


@contextmanager
def one_thread() -> Iterator[None]:
    """Products this small are slower on several threads, ten times so on a busy machine; and one thread gives the same bits on any."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
