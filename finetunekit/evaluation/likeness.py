"""How unlike the training photos a photo is: by the features that a run's last layer reads, against its validation photos."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import RunFolderError
from finetunekit.runs.folder import FEATURES, FinishedRun
from finetunekit.statistics import conformal_p_values, log_sum_exp
from finetunekit.system.files import read_regular, write_whole
from finetunekit.system.formatting import one_line

NEAREST = 5
"""Training photos that a photo is compared with."""
MOST_KEPT = 5000
"""Training photos that are kept, at most: 13 MB with 1280 channels."""
UNLIKE_P, LARGEST_P = 0.01, 0.05
"""A photo is called unlike any training photo where its p-value is at most the first; with fewer than 99 validation photos no p-value is so
small, and the smallest that there can be counts, up to the second."""
_BLOCK = 256
_SPARE = 5
"""Training photos beyond the `NEAREST` whose cosines are computed with care."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a network makes of photos before it answers.

    Attributes:
        features: What its last layer reads, `(photos, channels)` float32.
        energies: Minus the log-sum-exp of the logits, `(photos,)` float64: high where no class speaks.
    """

    features: NDArray[np.float32]
    energies: NDArray[np.float64]

    def take(self, positions: NDArray[np.intp]) -> Traits:
        """Those of some of the photos."""
        return Traits(self.features[positions], self.energies[positions])


def traits_of(features: NDArray[np.float32], logits: NDArray[np.float32]) -> Traits:
    """From what a network gives, `(photos, channels)` and `(photos, classes)`."""
    return Traits(features, -log_sum_exp(logits))


@dataclass(frozen=True, slots=True)
class TrainFeatures:
    """What a run keeps of its training photos, to tell photos that are unlike them.

    How unlike they are is the sum of two parts, each in units of its spread over the training photos: the mean cosine distance to the
    `NEAREST` training photos, and the energy.

    Attributes:
        vectors: Features of training photos, each of length 1, `(photos, channels)` float16.
        sha256: Of each photo.
        spread: Standard deviation over the training photos of a photo's distance to the others, and of its energy, `(2,)` float64.
        known: Unlikeness of validation photos, each content once, `(photos,)` float64.

    Source: Sun et al. 2022, Out-of-distribution detection with deep nearest neighbors, arXiv:2204.06507; Liu et al. 2020, Energy-based
        out-of-distribution detection, arXiv:2010.03759. The sum: `python benchmarks/bench_unlike.py`. The distance alone misses classes
        that look like those trained on, the energy alone drawings and classes between two; their spread comes from training photos, so
        that nothing is fitted on the validation photos that p-values are counted by.
    """

    vectors: NDArray[np.float16]
    sha256: tuple[str, ...]
    spread: NDArray[np.float64]
    known: NDArray[np.float64]

    @property
    def unlike_at(self) -> float | None:
        """Largest p-value of a photo that is called unlike any training photo; None where there are too few validation photos to say so."""
        smallest = 1.0 / (len(self.known) + 1)
        return max(UNLIKE_P, smallest) if smallest <= LARGEST_P else None

    def unlikeness(self, traits: Traits) -> NDArray[np.float64]:
        """How unlike the training photos photos are, `(photos,)`."""
        return unlikeness(self.vectors, self.spread, traits)

    def p_values(self, traits: Traits) -> NDArray[np.float64]:
        """How rarely a photo like the validation ones is as unlike the training photos, `(photos,)`."""
        return conformal_p_values(self.known, self.unlikeness(traits))

    def nearest(self, features: NDArray[np.float32], photos: int = NEAREST) -> list[list[tuple[str, float]]]:
        """The training photos most alike of each photo, as SHA-256 and cosine, most alike first."""
        cosines = _cosines(self.vectors, features)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :photos]
        return [[(self.sha256[i], float(row[i])) for i in chosen] for row, chosen in zip(cosines, order, strict=True)]


def unlikeness(vectors: NDArray[np.float16], spread: NDArray[np.float64], traits: Traits) -> NDArray[np.float64]:
    """See `TrainFeatures`; `(photos,)`, larger is stranger."""
    found: NDArray[np.float64] = distances(vectors, traits.features) / spread[0] + traits.energies / spread[1]
    return found


def distances(
    vectors: NDArray[np.float16], features: NDArray[np.float32], *, is_own: bool = False
) -> NDArray[np.float64]:
    """Mean cosine distance of each photo to its `NEAREST` training photos, `(photos,)`, in [0, 2].

    Args:
        vectors: Of training photos, each of length 1, `(photos, channels)`.
        features: Of the photos asked about, of any length, `(photos, channels)`.
        is_own: They are the training photos, in the same order: none is compared with itself.
    """
    others = len(vectors) - is_own
    count, careful = min(NEAREST, others), min(NEAREST + _SPARE, others)
    found = np.zeros(len(features))
    for start in range(0, len(features) if count else 0, _BLOCK):
        part = features[start : start + _BLOCK]
        cosines = _cosines(vectors, part)
        if is_own:
            rows = np.arange(len(cosines))
            cosines[rows, start + rows] = -np.inf
        near = np.argpartition(cosines, -careful, axis=1)[:, -careful:]
        found[start : start + _BLOCK] = 1.0 - _careful_cosines(vectors[near], part)[:, -count:].mean(axis=1)
    return found


def _careful_cosines(vectors: NDArray[np.float16], features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines of photos with vectors of their own, `(photos, vectors)`, ascending.

    The bits of a product of two matrices depend on how many rows it has; those of these sums do not: a photo's answer is the same whichever
    photos came with it.
    """
    found = np.empty(vectors.shape[:2])
    for row, photo in enumerate(unit_length(features).astype(np.float64)):  # one at a time: all of them take 100 MB
        found[row] = (vectors[row].astype(np.float64) * photo).sum(axis=1)
    return np.sort(found, axis=1)


def _cosines(vectors: NDArray[np.float16], features: NDArray[np.float32]) -> NDArray[np.float64]:
    cosines: NDArray[np.float64] = (unit_length(features) @ vectors.astype(np.float32).T).astype(np.float64)
    return cosines


def unit_length(features: NDArray[Any]) -> NDArray[np.float32]:
    """Features `(photos, channels)` of length 1; those that are 0 everywhere stay 0, like nothing."""
    values = features.astype(np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return unit


def keep_features(train: Traits, sha256: Sequence[str], valid: Traits, valid_sha256: Sequence[str]) -> TrainFeatures:
    """What a run keeps, from what its network makes of its training and validation photos.

    Args:
        train: Of training photos; `MOST_KEPT` of them are drawn where there are more.
        sha256: Of each.
        valid: Of validation photos.
        valid_sha256: Of each; copies count once.
    """
    kept = np.sort(np.random.default_rng(0).permutation(len(sha256))[:MOST_KEPT])
    own = train.take(kept)
    vectors = unit_length(own.features).astype(np.float16)
    spread = np.array([distances(vectors, own.features, is_own=True).std(), own.energies.std()])
    spread = np.maximum(spread, 1e-6)  # photos that are all alike
    _, first = np.unique(valid_sha256, return_index=True)
    known = unlikeness(vectors, spread, valid.take(first))
    return TrainFeatures(vectors, tuple(sha256[i] for i in kept), spread, known)


def write_features(path: Path, features: TrainFeatures) -> None:
    """Write `train_features.npz` of a run folder: arrays only.

    Raises:
        RunFolderError: If it cannot be written.
    """
    content = io.BytesIO()
    sha256 = np.array(features.sha256, "S64")
    np.savez(content, vectors=features.vectors, sha256=sha256, spread=features.spread, known=features.known)
    write_whole(path / FEATURES, content.getvalue())


def read_features(run: FinishedRun) -> TrainFeatures | None:
    """What a run keeps of its training photos; None where its network has no features that could be compared.

    Raises:
        RunFolderError: If the file is damaged.
    """
    path = run.path / FEATURES
    if not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(read_regular(path)), allow_pickle=False) as arrays:
            sha256 = tuple(str(name, "ascii") for name in arrays["sha256"])
            found = TrainFeatures(arrays["vectors"], sha256, arrays["spread"], arrays["known"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as exc:
        raise RunFolderError(f"{path}: is damaged ({one_line(exc)}). Run again, or delete it to do without.") from exc
    if found.vectors.ndim != 2 or len(found.vectors) != len(found.sha256) or not len(found.known):
        raise RunFolderError(f"{path}: is damaged (its arrays do not fit). Run again, or delete it to do without.")
    return found


def unlike_words(p_value: float) -> str:
    """`unlike any training photo (p = 0.004)`."""
    return f"unlike any training photo (p = {p_value:.2g})"


def unlike_notes(features: TrainFeatures | None) -> Iterator[str]:
    """Why no photo can be called unlike the training photos, where that is so."""
    if features is None:
        yield "This run keeps no features of its training photos: a photo that shows none of the classes cannot be recognised."
    elif features.unlike_at is None:
        yield (
            f"{len(features.known):,} validation photos are too few to tell a photo that shows none of the classes; it takes "
            f"{round(1 / LARGEST_P) - 1}."
        )


def count_unlike(features: TrainFeatures, test: Traits | None) -> dict[str, Any]:
    """How many test photos are called unlike any training photo, as plain values for `metrics.json`."""
    at, photos = features.unlike_at, 0 if test is None else len(test.energies)
    told = int((features.p_values(test) <= at).sum()) if test is not None and at is not None else 0
    return {"photos": len(features.known), "p": at, "test": {"unlike": told, "photos": photos}}
