"""What a run will cost, as values: layers, cut, multiply-adds, cache, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetunekit.models.layer_table import LayerRow
from finetunekit.training.step_timing import StageTimes


@dataclass(frozen=True, slots=True)
class Entries:
    """Cache entries that a stage makes: `views` entries of `photos` photos of one split.

    Attributes:
        split: Of the photos.
        photos: Number of photos.
        views: Augmented views of each; 0: the photos as they are, one entry.
    """

    split: str
    photos: int
    views: int = 0

    @property
    def count(self) -> int:
        """Number of entries."""
        return max(self.views, 1)


@dataclass(frozen=True, slots=True)
class StagePreview:
    """One stage.

    Attributes:
        name: Of the stage.
        epochs: Number of epochs.
        draws: Photos drawn an epoch.
        layers: The table, in the order of the forward pass.
        trainable_parameters: Of layers whose rate is not 0.
        frozen_parameters: Of the others.
        boundary: Names of the layers whose outputs cross the cut; empty where there is none.
        layers_before_cut: Names of the layers before it.
        multiply_adds: Of one photo forward.
        multiply_adds_before_cut: Those of them before the cut.
        share_before_cut: Their fraction, in [0, 1].
        not_counted: Layers that `multiply_adds` leaves out.
        mode: How features are reused: `off`, `exact` or `bank`.
        bytes_per_photo: Features of one photo at the cut.
        entries: What this stage puts into the cache; what an earlier one put there is left out.
        cache_bytes: Features of `entries`.
        times: From a calibration.
    """

    name: str
    epochs: int
    draws: int
    layers: tuple[LayerRow, ...]
    trainable_parameters: int
    frozen_parameters: int
    boundary: tuple[str, ...]
    layers_before_cut: tuple[str, ...]
    multiply_adds: int
    multiply_adds_before_cut: int
    share_before_cut: float
    not_counted: tuple[str, ...]
    mode: str
    bytes_per_photo: int
    entries: tuple[Entries, ...]
    cache_bytes: int
    times: StageTimes | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of a whole run from an empty cache.

    Attributes:
        start_s: TensorFlow, network, photos, self-checks.
        extraction_s: Features of the frozen prefix; near 0 where an earlier run left them.
        training_s: Epochs, their validation included.
        evaluation_s: The last evaluation, and saving the model.
        total_s: All of it.
    """

    start_s: float
    extraction_s: float
    training_s: float
    evaluation_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run will cost.

    Attributes:
        name: Of the run.
        stand_in: The sentence that says so if the photos are not the user's.
        photos: Split → number of photos.
        num_classes: Number of classes.
        precision: `float32` or `bfloat16`, as this machine resolves it.
        stages: One a stage.
        cache_folder: Where features will lie.
        cache_bytes: All of them.
        cache_bound_bytes: Bound of that folder.
        free_bytes: Free space there.
        estimate: From a calibration.
    """

    name: str
    stand_in: str | None
    photos: Mapping[str, int]
    num_classes: int
    precision: str
    stages: tuple[StagePreview, ...]
    cache_folder: str
    cache_bytes: int
    cache_bound_bytes: int
    free_bytes: int
    estimate: Estimate | None
