"""Ridge regression on one-hot labels in closed form, with the scale that makes its scores logits."""

from __future__ import annotations

import numpy as np

from finetunekit.models.linear_probe.principal_axes import Axes, FloatArray, IntArray


def solve_ridge(axes: Axes, labels: IntArray, classes: int, penalty: float) -> tuple[FloatArray, FloatArray]:
    """Minimise `mean half squared distance to one-hot labels + penalty / 2 · sum(weights²)`, then scale the scores to logits.

    Ridge scores are no logits: a softmax over numbers near 0 and 1 is far too unsure. They are multiplied by the one number that minimises
    the log loss of the leave-one-out scores, which have a closed form. Copies of one photo among the training photos make that scale too
    sure.

    Args:
        axes: Training photos on their principal axes.
        labels: `(photos,)`, integers in [0, classes).
        classes: At least 2.
        penalty: Above 0.

    Returns:
        Weights `(axes, classes)` and bias `(classes,)`, float64.

    Source: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, equations 3.44 (ridge), 4.1 (one-hot labels) and 7.64
        (leave-one-out by the hat matrix); the scale is a temperature, Guo et al. 2017, arXiv:1706.04599.
    """
    from finetunekit.statistics import fit_temperature

    one_hot = np.eye(classes)[labels]
    mean = one_hot.mean(axis=0)  # (classes,)
    photos = len(labels)
    shrink = 1.0 / (photos * (axes.variances + penalty))  # (axes,)
    weights = shrink[:, None] * (axes.scores.T @ (one_hot - mean))
    fitted = axes.scores @ weights + mean
    leverage = 1.0 / photos + np.einsum("pa,a,pa->p", axes.scores, shrink, axes.scores)  # (photos,)
    residual = (one_hot - fitted) / np.maximum(1.0 - leverage, 1e-9)[:, None]
    scale = 1.0 / fit_temperature(one_hot - residual, labels).temperature
    return weights * scale, mean * scale
