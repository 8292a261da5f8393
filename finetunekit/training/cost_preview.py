"""Plan + photo counts + graph without weights → what a run will cost: layers, cut, multiply-adds, cache, time."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from finetunekit.models.classifier import Classifier, build_classifier
from finetunekit.models.feature_cache import FeatureCache, open_cache
from finetunekit.models.flops import count_uses, not_counted, total_multiply_adds
from finetunekit.models.freezing import freeze_layers
from finetunekit.models.frozen_prefix import Cut, find_cut
from finetunekit.models.layer_table import LayerRow, layer_rows
from finetunekit.system.environment import prepare_tensorflow, resolve_precision
from finetunekit.system.progress import Progress
from finetunekit.training.prepare_stage import build_augmenter, draws_views
from finetunekit.training.sampling import draw_epoch
from finetunekit.training.solve import find_last_dense
from finetunekit.training.stage_features import bank_size
from finetunekit.training.step_timing import StageTimes, time_saving, time_stage
from finetunekit.types import DISPLAY, SPLITS, TRAIN, VALID

if TYPE_CHECKING:
    from finetunekit.config.plan import Plan
    from finetunekit.data.index import PhotoIndex


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


def count_photos(index: PhotoIndex) -> dict[str, int]:
    """Split → number of photos; 0 display photos where all are photos of other splits, which are evaluated once."""
    counts = {split: len(index.split(split)) for split in SPLITS}
    others = {photo.sha256 for photo in index.photos if photo.split != DISPLAY}
    if {photo.sha256 for photo in index.split(DISPLAY)} <= others:
        counts[DISPLAY] = 0
    return counts


def preview_plan(plan: Plan, progress: Progress) -> Preview:
    """Read the photos of a plan, of the first fold where it has several, and say what a run of them will cost.

    Raises:
        DataError: If the photos cannot be listed or read.
        As `preview`.
    """
    from finetunekit.data.index import build_index
    from finetunekit.data.listing import in_asked_splits, list_photos

    started, train = time.perf_counter(), plan.config.train
    counter = progress.counter("reading photos")
    index = build_index(list_photos(plan, progress), max_pixels=plan.config.data.max_photo_pixels, progress=counter)
    if train.folds is not None and train.fold is None:
        train = train.model_copy(update={"fold": 1})
    index = in_asked_splits(index, train)
    return preview(
        plan,
        photo_counts=count_photos(index),
        num_classes=len(index.classes),
        is_calibrated=True,
        stand_in=index.stand_in,
        photos_s=time.perf_counter() - started,  # a run decodes every photo once, as here
        progress=progress,
    )


def preview(
    plan: Plan,
    *,
    photo_counts: Mapping[str, int],
    num_classes: int,
    is_calibrated: bool,
    stand_in: str | None = None,
    photos_s: float = 0.0,
    progress: Progress | None = None,
) -> Preview:
    """Build the graph without weights and say what the run will cost.

    Args:
        plan: The run's plan.
        photo_counts: Split → photos, from `count_photos`; at least 1 in `train`.
        num_classes: At least 2.
        is_calibrated: Time a few real steps and estimate the run's time; else no step is computed.
        stand_in: The sentence that says so if the photos are not the user's.
        photos_s: Seconds that reading and decoding the photos takes; part of the estimate.
        progress: Says what is being timed.

    Raises:
        PluginError: If a component fails or returns something that its hook does not allow.
        RunError: If nothing would train.
        ConfigError: If a bank of views is timed and an augmentation cannot be banked.
    """
    progress = progress or Progress(is_quiet=True)
    started = time.perf_counter()
    prepare_tensorflow(seed=plan.config.seed, is_deterministic=plan.config.deterministic)
    precision = resolve_precision(plan.config.precision)
    classifier = build_classifier(plan.network, num_classes, precision)
    start_s = time.perf_counter() - started + photos_s
    is_augmented = build_augmenter(plan) is not None
    work = _Work(plan, photo_counts, num_classes, precision, classifier, is_augmented, progress)
    stages = tuple(work.stage(number, is_calibrated) for number in range(len(plan.stages)))
    cache = open_cache(progress.say)
    return Preview(
        name=plan.config.name,
        stand_in=stand_in,
        photos=dict(photo_counts),
        num_classes=num_classes,
        precision=precision,
        stages=stages,
        cache_folder=str(cache.folder),
        cache_bytes=sum(stage.cache_bytes for stage in stages),
        cache_bound_bytes=cache.max_bytes,
        free_bytes=_free_bytes(cache),
        estimate=work.estimate(stages, start_s) if is_calibrated else None,
    )


@dataclass(frozen=True)
class _Work:
    """What is known while the stages are gone through, in their order."""

    plan: Plan
    photos: Mapping[str, int]
    num_classes: int
    precision: str
    classifier: Classifier
    is_augmented: bool
    progress: Progress
    trained: list[set[str]] = field(default_factory=list)  # variables that each stage so far trains
    known: dict[object, int] = field(default_factory=dict)  # cache entries that stages so far make, and how many views
    timed: dict[object, StageTimes] = field(default_factory=dict)

    def stage(self, number: int, is_calibrated: bool) -> StagePreview:
        """Set the flags as the stage will, and look at the graph."""
        config, logits = self.plan.config, self.classifier.logits
        stage = self.plan.stages[number].config
        freezing = freeze_layers(self.classifier, self.plan.stages[number])
        if stage.kind == "solve":
            find_last_dense(self.classifier, self.plan, number)
        cut = None if config.cache.mode == "off" else find_cut(logits)
        uses = count_uses(logits)
        whole, before = total_multiply_adds(uses), total_multiply_adds(count_uses(cut.prefix)) if cut else 0
        key = (tuple(sorted(freezing.decision.items())), stage.optimizer.name if stage.kind == "fit" else None)
        if is_calibrated and key not in self.timed:
            # backwards costs about twice the forward pass: gradients of inputs and of weights
            self.timed[key] = self._time(number, before + 3 * (whole - before))
        times = self.timed.get(key)
        cut = None if times and times.is_cut_refused else cut
        self.trained.append(set(freezing.rates))
        entries, bytes_per_photo = self._entries(number, cut), _bytes_per_photo(cut) if cut else 0
        rows = layer_rows(self.classifier, freezing.decision, cut.prefix_layers if cut else (), freezing.claims)
        frozen = sum(row.parameters for row in rows if row.rate == 0)
        return StagePreview(
            name=stage.name,
            epochs=stage.epochs,
            draws=config.train.draws_per_epoch or self.photos[TRAIN],
            layers=rows,
            trainable_parameters=sum(row.parameters for row in rows) - frozen,
            frozen_parameters=frozen,
            boundary=cut.boundary if cut else (),
            layers_before_cut=cut.prefix_layers if cut else (),
            multiply_adds=whole,
            multiply_adds_before_cut=before if cut else 0,
            share_before_cut=before / whole if cut and whole else 0.0,
            not_counted=not_counted(uses),
            mode=self._mode(cut, number),
            bytes_per_photo=bytes_per_photo,
            entries=entries,
            cache_bytes=sum(e.count * e.photos for e in entries) * bytes_per_photo,
            times=times,
        )

    def _time(self, number: int, step_multiply_adds: int) -> StageTimes:
        self.progress.say(f"timing a few steps of stage {number + 1} on random photos ...")
        return time_stage(
            self.plan,
            number,
            self.classifier,
            precision=self.precision,
            num_classes=self.num_classes,
            train_photos=self.photos[TRAIN],
            step_multiply_adds=step_multiply_adds,
        )

    def _mode(self, cut: Cut | None, number: int) -> str:
        if cut is None:
            return "off"
        return "bank" if self.plan.config.cache.mode == "bank" and self._is_augmented(number) else "exact"

    def _is_augmented(self, number: int) -> bool:
        return self.is_augmented and draws_views(self.plan, number)

    def _entries(self, number: int, cut: Cut | None) -> tuple[Entries, ...]:
        """What the stage computes: validation photos, its views, and at the end of the run every photo as it is."""
        if cut is None:
            return ()
        is_last = number == len(self.plan.stages) - 1
        splits = SPLITS if is_last else (VALID,) if self._is_augmented(number) else (TRAIN, VALID)
        wanted = [Entries(split, self.photos.get(split, 0)) for split in splits]
        if self._mode(cut, number) == "bank":
            photos = self.photos[TRAIN]
            wanted.insert(0, Entries(TRAIN, photos, bank_size(self.plan, number, photos)))
        inside = {variable.path for variable in cut.prefix.weights}
        moved_by = tuple(i for i, names in enumerate(self.trained) if names & inside)
        return tuple(self._new((cut.boundary, cut.prefix_layers, moved_by), wanted))

    def _new(self, features: object, wanted: Sequence[Entries]) -> Iterator[Entries]:
        for entries in wanted:
            key = (features, entries.split, entries.photos, entries.views > 0)
            there = self.known.get(key, 0)
            if entries.photos and entries.count > there:
                self.known[key] = entries.count
                yield replace(entries, views=entries.views - there)

    def estimate(self, stages: tuple[StagePreview, ...], start_s: float) -> Estimate:
        """Add up what the stages take."""
        extraction_s = training_s = 0.0
        for number, stage in enumerate(stages):
            times = stage.times
            assert times is not None  # every stage of a calibrated preview was timed
            start_s += times.check_s
            extraction_s += sum(times.extraction_s(e.photos, e.count) for e in stage.entries)
            epoch_s = stage.draws / times.images_per_s + times.evaluation_s(self.photos.get(VALID, 0))
            folds = self._folds(number)
            whole = 1 + max(
                0, folds - 1
            )  # tried on folds, each without its part of the photos, and at last trained on all
            training_s += stage.epochs * epoch_s * whole + times.trace_s * self._batch_sizes() * (1 + folds)
        last = stages[-1].times
        assert last is not None
        evaluation_s = sum(last.evaluation_s(count) for count in self.photos.values())
        evaluation_s += time_saving(self.plan, self.classifier)
        return Estimate(
            start_s, extraction_s, training_s, evaluation_s, start_s + extraction_s + training_s + evaluation_s
        )

    def _folds(self, number: int) -> int:
        """Folds on which a stage is tried first."""
        stage = self.plan.stages[number].config
        return stage.cross_fit or 0 if stage.kind == "fit" else 0

    def _batch_sizes(self) -> int:
        """Distinct sizes of a batch: the step is traced once for each."""
        train, seed = self.plan.config.train, self.plan.config.seed
        drawn = draw_epoch(
            photos=self.photos[TRAIN],
            draws=train.draws_per_epoch,
            batch_size=train.batch_size,
            seed=seed,
            view_seed=seed,
            epoch=0,
        )
        return len(np.unique(np.diff(drawn.batch_ends, prepend=0)))


def _bytes_per_photo(cut: Cut) -> int:
    import tensorflow as tf

    return sum(math.prod(tensor.shape[1:]) * int(tf.as_dtype(tensor.dtype).size) for tensor in cut.prefix.outputs)


def _free_bytes(cache: FeatureCache) -> int:
    folder = next(path for path in (cache.folder, *cache.folder.parents) if path.exists())
    return shutil.disk_usage(folder).free
