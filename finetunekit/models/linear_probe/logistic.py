"""Multinomial logistic regression with an L2 penalty: exact gradient in float64, no random numbers."""

from __future__ import annotations

import numpy as np

from finetunekit.models.linear_probe.principal_axes import Axes, FloatArray, IntArray
from finetunekit.system.memory import scratch_array

#: Stops where no component of the scaled gradient is above this; the log loss is then settled to about 1e-6.
GRADIENT_TOLERANCE = 1e-5
MAX_ITERATIONS = 1000
#: Hardly a penalty at all, but a class without photos in one fold has a finite solution.
BIAS_PENALTY = 1e-6


def solve_logistic(
    axes: Axes, labels: IntArray, classes: int, penalty: float, start: tuple[FloatArray, FloatArray] | None = None
) -> tuple[FloatArray, FloatArray]:
    """Minimise `mean log loss + penalty / 2 · sum(weights²)`.

    Args:
        axes: Training photos on their principal axes.
        labels: `(photos,)`, integers in [0, classes).
        classes: At least 2.
        penalty: Above 0.
        start: Solution for a penalty nearby.

    Returns:
        Weights `(axes, classes)` and bias `(classes,)`, float64.

    Source: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, section 18.3.2. Minimised by L-BFGS-B (scipy) in
        coordinates scaled by the bound on the Hessian of Böhning 1992, Annals of the Institute of Statistical Mathematics 44, 197-200,
        which is diagonal on principal axes.
    """
    from scipy.optimize import minimize

    scale = 1.0 / np.sqrt(0.25 * axes.variances + penalty)  # (axes,)
    problem = _Problem(
        inputs=np.multiply(axes.scores, scale, out=scratch_array(axes.scores.shape)),
        one_hot=np.eye(classes)[labels],
        penalties=np.append(penalty * scale**2, BIAS_PENALTY)[:, None],
    )
    first = np.zeros((len(scale) + 1, classes))
    if start is not None:
        first[:-1], first[-1] = start[0] / scale[:, None], start[1]
    found = minimize(
        problem.value_and_gradient,
        first.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS, "gtol": GRADIENT_TOLERANCE, "ftol": 1e-12, "maxcor": 20},
    )
    solution = found.x.reshape(first.shape)
    return solution[:-1] * scale[:, None], solution[-1]


class _Problem:
    """The penalised log loss; the last row of the unknowns is the bias."""

    def __init__(self, inputs: FloatArray, one_hot: FloatArray, penalties: FloatArray) -> None:
        self.inputs, self.one_hot, self.penalties = inputs, one_hot, penalties

    def value_and_gradient(self, flat: FloatArray) -> tuple[float, FloatArray]:
        unknowns = flat.reshape(len(self.penalties), -1)
        logits = self.inputs @ unknowns[:-1] + unknowns[-1]  # (photos, classes)
        logits -= logits.max(axis=1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(axis=1, keepdims=True)
        photos = len(logits)
        loss = (np.log(sums).sum() - np.einsum("pc,pc->", logits, self.one_hot)) / photos
        error = (powers / sums - self.one_hot) / photos
        shrunk = self.penalties * unknowns
        gradient = np.vstack([self.inputs.T @ error, error.sum(axis=0)]) + shrunk
        return float(loss + 0.5 * np.einsum("uc,uc->", shrunk, unknowns)), gradient.ravel()
