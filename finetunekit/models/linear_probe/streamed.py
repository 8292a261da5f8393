"""Logistic regression on features that stay on disk: full batches, their gradient summed block by block, one pass an evaluation.

It is the problem that `finetunekit.models.linear_probe.linear` hands to scikit-learn, minimised by the same L-BFGS to the same bound on
the gradient, so that both end at the same optimum within that bound. Blocks are dealt to a fixed number of lanes and their sums added in a
fixed order: the bits do not depend on the number of processors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.linear_probe.scaling import LOUDEST, FloatArray, IntArray
from finetunekit.system.environment import available_cpus

BLOCK = 2048
"""Rows that are looked at at once: 20 MB of 1280 channels as float64."""
LANES = 4
"""Blocks that are under way at once, at most; each lane holds sums of its own."""
_LINE_SEARCHES, _LOSS_TOLERANCE = 50, 64 * float(np.finfo(float).eps)
"""As scikit-learn sets them."""


@dataclass(frozen=True)
class FeatureRows:
    """Rows of features that are mapped from a file. Only slices of them become arrays; what else is chosen of them stays on disk.

    Attributes:
        base: `(photos, channels)` float16 or float32.
        index: Rows of `base` that count, ascending; None: all.
        show: Told what is under way, now and then.
    """

    base: NDArray[Any]
    index: IntArray | None = None
    show: Callable[[str], None] = lambda _: None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows that count, and channels."""
        return len(self), self.base.shape[1]

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    def __len__(self) -> int:
        return len(self.base) if self.index is None else len(self.index)

    def __getitem__(self, rows: Any) -> Any:
        """The values of a slice; of a mask or of positions, again `FeatureRows`."""
        if isinstance(rows, slice):
            return self.base[rows if self.index is None else self.index[rows]]
        index = np.arange(len(self.base)) if self.index is None else self.index
        return replace(self, index=index[rows])

    def blocks(self, lane: int = 0, lanes: int = 1) -> Iterator[slice]:
        """Every block, or those of a lane."""
        for start in range(lane * BLOCK, len(self), lanes * BLOCK):
            yield slice(start, start + BLOCK)


class StreamedLogistic:
    """Training photos that are read again for every evaluation; each solution starts the next."""

    def __init__(self, features: FeatureRows, labels: IntArray, tolerance: float, max_iterations: int) -> None:
        """Bring channels to one scale, in three passes.

        Args:
            features: Finite; at least two photos.
            labels: `(photos,)`, integers from 0 without a gap.
            tolerance: No component of the gradient is above it at the end.
            max_iterations: At most.

        Raises:
            ValueError: If they are not finite, or no channel tells two photos apart.
        """
        self._features, self._labels = features, labels
        self._classes = int(labels.max()) + 1
        self._options = {"gtol": tolerance, "maxiter": max_iterations, "maxls": _LINE_SEARCHES, "ftol": _LOSS_TOLERANCE}
        self.mean, self.deviation = self._moments()
        self._start = np.zeros((features.shape[1] + 1, self._classes))
        self.passes = 0

    def _moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean of each channel, and what it is divided by; see `finetunekit.models.linear_probe.scaling.ScaledFeatures`."""
        rows = len(self._features)
        mean = self._summed(lambda block, _: block.astype(np.float64).sum(axis=0)) / rows
        if not np.isfinite(mean).all():
            raise ValueError(f"features must be finite (photos, channels). Received: {self._features.shape}")
        squares = self._summed(lambda block, _: np.square(block.astype(np.float64) - mean).sum(axis=0))
        deviation = np.sqrt(squares / rows)
        typical = float(np.sqrt(np.mean(deviation**2)))
        if typical == 0.0:
            raise ValueError("features are the same for every photo; nothing can be told from them")
        return mean, np.maximum(deviation / LOUDEST, typical)

    def fit(self, penalty: float) -> tuple[FloatArray, FloatArray]:
        """Weights `(channels, classes)` of features on one scale and bias `(classes,)`, both float64."""
        from scipy.optimize import minimize

        found = minimize(
            lambda flat: self._loss(flat.reshape(self._start.shape), penalty),
            self._start.ravel(),
            method="L-BFGS-B",
            jac=True,
            options=self._options,
        )
        self._start = found.x.reshape(self._start.shape)
        return self._start[:-1], self._start[-1]

    def _loss(self, point: FloatArray, penalty: float) -> tuple[float, FloatArray]:
        """Mean log loss with its penalty, and the gradient; one pass over the features."""
        weights, bias = point[:-1], point[-1]

        def part(block: NDArray[Any], rows: slice) -> FloatArray:
            z = block.astype(np.float64)  # (rows, channels)
            z -= self.mean
            z /= self.deviation
            labels = self._labels[rows]
            logits = z @ weights + bias  # (rows, classes)
            logits -= logits.max(axis=1, keepdims=True)
            own = logits[np.arange(len(labels)), labels]
            shares = np.exp(logits, out=logits)
            total = shares.sum(axis=1, keepdims=True)
            log_loss = float(np.log(total).sum() - own.sum())
            shares /= total
            shares[np.arange(len(labels)), labels] -= 1
            summed = np.empty((len(point) + 1, shares.shape[1]))
            summed[:-2] = z.T @ shares  # (channels, classes)
            summed[-2], summed[-1] = shares.sum(axis=0), log_loss
            return summed

        summed = self._summed(part) / len(self._features)
        gradient = summed[:-1]
        gradient[:-1] += penalty * point[:-1]
        self.passes += 1
        self._features.show(f"pass {self.passes} over {len(self._features):,} photos, slope {abs(gradient).max():.1e}")
        return float(summed[-1, 0] + penalty / 2 * np.square(point[:-1]).sum()), gradient.ravel()

    def _summed(self, part: Callable[[NDArray[Any], slice], FloatArray]) -> FloatArray:
        """The sum of what every block gives."""

        def lane_sum(lane: int) -> FloatArray | float:
            total: FloatArray | float = 0.0
            for rows in self._features.blocks(lane, LANES):
                total = total + part(self._features[rows], rows)
            return total

        with ThreadPoolExecutor(min(LANES, available_cpus())) as pool:
            sums = list(pool.map(lane_sum, range(LANES)))
        total: FloatArray = np.asarray(sum(sums[1:], start=sums[0]))
        return total
