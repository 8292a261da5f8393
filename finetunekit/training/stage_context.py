"""What the stages of a run share, and what comes of preparing one: values, no loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.pixel_contract import pixel_parts
from finetunekit.config.plan import Plan
from finetunekit.data.augmentation import Augmenter
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.models.classifier import Classifier
from finetunekit.models.feature_cache import Extractor, FeatureCache
from finetunekit.models.forward import Answers
from finetunekit.models.freezing import Freezing
from finetunekit.models.frozen_prefix import Cut
from finetunekit.system.progress import Progress
from finetunekit.training.batches import Draws, Feed
from finetunekit.training.devices import Devices
from finetunekit.types import PixelContract

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one stage trains and how its network is evaluated.

    Attributes:
        model: What is trained: the whole network, or the part after the cut.
        freezing: What of the network it trains, and at which rates.
        feed: Training batches.
        answer: Photos and what messages call them → logits of the network as it is now, `(photos, classes)` float32, and in the same pass
            what its last layer reads, `(photos, channels)` float32; None in place of it where it reads no vector.
        extract: Runs the frozen prefix; None if the whole network is computed each time.
        mode: One line: how features are reused, for the first lines of the run.
    """

    model: keras.Model
    freezing: Freezing
    feed: Feed
    answer: Callable[[DecodedPhotos, str], Answers]
    extract: Extractor[Cut] | None
    mode: str

    @property
    def cut(self) -> Cut | None:
        """Where the frozen prefix ends; None if the whole network is computed each time."""
        return None if self.extract is None else self.extract.cut

    def predict(self, photos: DecodedPhotos, what: str) -> NDArray[np.float32]:
        """Logits of the network as it is now, `(photos, classes)` float32; `what` is how messages call the photos."""
        return self.answer(photos, what)[0]


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
        classes: Class names; position is the class index.
        held_out: SHA-256 of the files of every photo outside the training split; nothing is known of them but that.
        cache: Features of earlier runs.
        progress: Says what is under way.
        devices: What trains the network together; None: one device.
    """

    plan: Plan
    classifier: Classifier
    contract: PixelContract
    precision: str
    augmenter: Augmenter | None
    train: DecodedPhotos
    valid: DecodedPhotos
    classes: tuple[str, ...]
    held_out: frozenset[str]
    cache: FeatureCache
    progress: Progress
    devices: Devices | None = None

    @property
    def outline(self) -> str:
        """What has to be the same in all processes that train together."""
        config = self.plan.config
        parts = (
            config.train,
            config.stages,
            config.augment,
            config.pixels,
            config.seed,
            config.view_seed,
            self.precision,
        )
        return repr((*parts, self.classes, self.train.sha256, self.train.labels.tolist()))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

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
