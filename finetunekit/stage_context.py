"""What the stages of a run share, and what comes of preparing one: values, no loop."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.augmentation import Augmenter
from finetunekit.features import FeatureCache
from finetunekit.feeds import Draws, Feed
from finetunekit.model import Classifier
from finetunekit.pixels import pixel_parts
from finetunekit.plan import Plan
from finetunekit.prefix import Cut
from finetunekit.progress import Progress
from finetunekit.types import PixelContract

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Photos:
    """Decoded photos of one split.

    Attributes:
        pixels: `(photos, size, size, 3)` uint8 RGB.
        labels: `(photos,)` int64.
        sha256: Of each file.
        groups: Of each photo, what cross-validation must not tear apart: its group, else its content. Empty: each photo by itself.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sha256: tuple[str, ...]
    groups: tuple[str, ...] = ()

    def one_hot(self, num_classes: int) -> NDArray[np.float32]:
        """Labels, `(photos, classes)` float32."""
        rows: NDArray[np.float32] = np.eye(num_classes, dtype=np.float32)[self.labels]
        return rows

    def take(self, indices: Sequence[int]) -> Photos:
        """Those at these places."""
        return Photos(
            self.pixels[indices],
            self.labels[indices],
            tuple(self.sha256[i] for i in indices),
            tuple(self.groups[i] for i in indices) if self.groups else (),
        )

    def with_pixels(self, pixels: NDArray[np.uint8]) -> Photos:
        """These photos with other pixels, such as their mirror images; cached features know the two apart."""
        if pixels is self.pixels:
            return self
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        return replace(self, pixels=pixels, sha256=tuple(f"{sha} as {digest}" for sha in self.sha256))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one stage trains and how its network is evaluated.

    Attributes:
        model: What is trained: the whole network, or the part after the cut.
        rates: Variable path → rate multiplier.
        feed: Training batches.
        predict: Photos and what messages call them → logits of the network as it is now, `(photos, classes)` float32.
        decision: Layer path → rate multiplier, for the record.
        cut: Where the frozen prefix ends; None if the whole network is computed each time.
        mode: One line: how features are reused, for the first lines of the run.
        claims: Layer path → the rule of the freezing policy that claimed it, where the policy says so.
    """

    model: keras.Model
    rates: dict[str, float]
    feed: Feed
    predict: Callable[[Photos, str], NDArray[np.float32]]
    decision: dict[str, float]
    cut: Cut | None
    mode: str
    claims: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageContext:
    """What every stage of a run shares.

    Attributes:
        plan: The run's plan.
        classifier: The network.
        contract: What it is fed by.
        precision: `float32` or `bfloat16`.
        augmenter: None where nothing is augmented.
        train: Training photos.
        valid: Validation photos.
        num_classes: Number of classes.
        cache: Features of earlier runs.
        progress: Says what is under way.
    """

    plan: Plan
    classifier: Classifier
    contract: PixelContract
    precision: str
    augmenter: Augmenter | None
    train: Photos
    valid: Photos
    num_classes: int
    cache: FeatureCache
    progress: Progress

    @property
    def pixel_parts(self) -> list[Any]:
        """What un-augmented input follows from besides the photo's bytes."""
        return pixel_parts(self.plan.config.pixels, self.contract)

    @property
    def draws(self) -> Draws:
        """Which photos are drawn, and by which keys they are augmented."""
        config = self.plan.config
        return Draws(
            photos=len(self.train.pixels),
            draws=config.train.draws_per_epoch,
            batch_size=config.train.batch_size,
            seed=config.seed,
            view_seed=config.seed if config.view_seed is None else config.view_seed,
        )
