"""Photos on a map, near those that look alike to a pretrained network, and the ones most like one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import FinetuneKitError
from finetunekit.system.formatting import one_line
from finetunekit.system.progress import Progress

#: Gives features `(photos, channels)` float32, and the numbers of the photos that they are of, `(photos,)` int64.
Features = Callable[[Progress], tuple[NDArray[np.float32], NDArray[np.int64]]]
NONE_HERE = "No pretrained network is at hand. Start the review with --network, which fetches one, or review a run, whose backbone is used."


@dataclass(frozen=True, slots=True)
class Projection:
    """A map.

    Attributes:
        numbers: Of the photos, `(photos,)` int64.
        places: `(photos, 2)` float32, each axis in [0, 1].
        kept: Part of the features' variance that the two axes have, in [0, 1].
    """

    numbers: NDArray[np.int64]
    places: NDArray[np.float32]
    kept: float


class PhotoMap:
    """The map of a review, made in a thread of its own when it is first asked for.

    Attributes:
        progress: What is under way, in words.
        problem: Why there is none; empty where there is.
    """

    def __init__(self, features: Features | None, why_none: str = NONE_HERE) -> None:
        """Of these features; None: there is no map, and why."""
        self._make, self.progress, self.problem = features, "", "" if features else why_none
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._units: NDArray[np.float32] | None = None
        self._projection: Projection | None = None

    def projection(self) -> Projection | None:
        """The map; None while it is being made, or where there is none."""
        with self._lock:
            if self._thread is None and self._make is not None:
                self._thread = threading.Thread(target=self._work, name="map", daemon=True)
                self._thread.start()
        return self._projection

    def like(self, number: int, count: int) -> list[int] | None:
        """Numbers of the photos most like one, itself first, by the cosine of their features; None where it is not on the map."""
        made = self._projection
        if made is None or self._units is None:
            return None
        place = np.flatnonzero(made.numbers == number)
        if not len(place):
            return None
        likeness = self._units @ self._units[place[0]]
        nearest = np.argsort(-likeness, kind="stable")[:count]
        return [number, *(int(other) for other in made.numbers[nearest] if other != number)][:count]

    def _work(self) -> None:
        assert self._make is not None
        try:
            features, numbers = self._make(_Told(self))
            lengths = np.linalg.norm(features, axis=1, keepdims=True)
            self._units = (features / np.maximum(lengths, 1e-12)).astype(np.float32)
            self._projection = project(features, numbers)
        except FinetuneKitError as exc:
            self.problem = one_line(exc)
        finally:
            if self._projection is None and not self.problem:
                self.problem = "The map could not be made; the terminal says why."


class _Told(Progress):
    """Progress that the page shows."""

    def __init__(self, told: PhotoMap) -> None:
        super().__init__(is_quiet=True)
        self._told = told

    def say(self, line: str) -> None:
        self._told.progress = line

    def counter(self, what: str) -> Callable[[int, int], None]:
        def count(done: int, of: int) -> None:
            self._told.progress = f"{what}: {done:,} of {of:,}"

        return count


def project(features: NDArray[np.float32], numbers: NDArray[np.int64]) -> Projection:
    """The two directions in which the photos differ most.

    Args:
        features: `(photos, channels)`, at least two photos.
        numbers: Of the photos, `(photos,)`.

    Source: principal components (Hotelling 1933), as scikit-learn's PCA computes them; randomised (Halko et al. 2011, arXiv:0909.4061).
    """
    from sklearn.decomposition import PCA

    pca = PCA(min(2, *features.shape), svd_solver="randomized", random_state=0)
    places = np.zeros((len(features), 2), np.float32)
    found = pca.fit_transform(features)
    places[:, : found.shape[1]] = found
    low, high = places.min(axis=0), places.max(axis=0)
    return Projection(
        numbers, (places - low) / np.maximum(high - low, 1e-12), float(pca.explained_variance_ratio_.sum())
    )
