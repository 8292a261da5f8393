"""What the baselines are measured on: values of a trained run, without its network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.plan import Plan
from finetunekit.data.decoded_photos import PixelStore
from finetunekit.data.index import PhotoIndex
from finetunekit.system.progress import Progress
from finetunekit.types import TEST, TRAIN, Backbone, PixelContract


@dataclass(frozen=True, slots=True)
class BaselineInputs:
    """What the baselines are measured on: a run without what it trained, for which there may be no room beside the pretrained network.

    Attributes:
        plan: The run's plan.
        index: Its photos.
        contract: What its network was fed by.
        precision: `float32` or `bfloat16`, of its network.
        photos: Their pixels.
        checked: Content of the training photos that the pixel check had through the pretrained network.
        boundary: Where the frozen prefix of its last stage ended, whose cached features are used again; empty where there was none.
        backbone: Its own, where that is the pretrained one still, since no stage trained any of it; else it is built and loaded again.
        progress: Says what is under way.
    """

    plan: Plan
    index: PhotoIndex
    contract: PixelContract
    precision: str
    photos: PixelStore
    checked: tuple[str, ...]
    boundary: tuple[str, ...]
    backbone: Backbone | None
    progress: Progress

    @property
    def labels(self) -> dict[str, NDArray[np.int64]]:
        """Class index of each photo of `train` and `test`."""
        return {split: self.index.labels(split) for split in (TRAIN, TEST)}
