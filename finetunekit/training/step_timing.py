"""Seconds that the parts of a stage take, from a few steps of the very graphs that the run will use, on random photos."""

from __future__ import annotations

import dataclasses
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.pixel_contract import contract_of
from finetunekit.config.training_sections import FitStage
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.models.classifier import Classifier, save_h5
from finetunekit.models.feature_cache import EXTRACTION_BATCH, Arrays, FeatureCache
from finetunekit.models.forward import SUFFIX_BATCH
from finetunekit.system.progress import Progress
from finetunekit.training.fit import run_fit
from finetunekit.training.prepare_stage import build_augmenter, prepare_stage
from finetunekit.training.stage_context import Prepared, StageContext
from finetunekit.training.stage_job import FitJob, Row, StageState
from finetunekit.training.validation import Validator
from finetunekit.types import VALID

if TYPE_CHECKING:
    from finetunekit.config.plan import Plan

_EPOCHS = 5  # the first traces the graph and is not counted
_MAX_STEPS, _MAX_BATCH = 20, 256
_MULTIPLY_ADDS_AN_EPOCH = 1.5e11  # about a second at 300 GFLOP/s
_PROBE_PHOTOS = 3 * EXTRACTION_BATCH
#: So small that random labels move no weight.
_LEARNING_RATE = 1e-12


@dataclass(frozen=True, slots=True)
class StageTimes:
    """What the parts of one stage took.

    Attributes:
        is_cut_refused: Whether the cache's self-check refused the cut on initial weights.
        check_s: Cut, self-check and graphs, once.
        entry_s: First batch of a graph's first cache entry, the graph included.
        entry_batch_s: Each further batch of `EXTRACTION_BATCH` photos, writing included.
        trace_s: Graph of the training step, once for each size of a batch.
        images_per_s: Training.
        forward_photos: Photos in a batch of evaluation.
        forward_s: One such batch, from cached features where there are any.
    """

    is_cut_refused: bool
    check_s: float
    entry_s: float
    entry_batch_s: float
    trace_s: float
    images_per_s: float
    forward_photos: int
    forward_s: float

    def extraction_s(self, photos: int, entries: int = 1) -> float:
        """Making the cache entries of one split's photos, by one graph."""
        batches = entries * math.ceil(photos / EXTRACTION_BATCH)
        return self.entry_s + (batches - 1) * self.entry_batch_s if batches else 0.0

    def evaluation_s(self, photos: int) -> float:
        """Logits of photos whose features, where they are cached, are there."""
        return math.ceil(photos / self.forward_photos) * self.forward_s


def time_stage(
    plan: Plan,
    number: int,
    classifier: Classifier,
    *,
    precision: str,
    num_classes: int,
    train_photos: int,
    step_multiply_adds: float,
) -> StageTimes:
    """Prepare a stage as the run would, on random photos and with a cache of its own, and time a few steps of each part.

    Args:
        plan: The run's plan.
        number: Of the stage, from 0.
        classifier: The network; its weights stay as they are within rounding.
        precision: `float32` or `bfloat16`.
        num_classes: At least 2.
        train_photos: Photos in the training split, at least 1: a batch has no more.
        step_multiply_adds: Rough cost of training on one photo; says how many steps are enough.

    Raises:
        ConfigError: As the run would: an augmentation that cannot be banked.
        PluginError: As the run would.
    """
    batch_size = min(plan.config.train.batch_size, train_photos, _MAX_BATCH)
    steps = max(1, min(_MAX_STEPS, int(_MULTIPLY_ADDS_AN_EPOCH / max(step_multiply_adds * batch_size, 1))))
    short = _shortened(plan, batch_size, steps)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        cache = _TimedCache(Path(folder), 1 << 62, _ignore)
        context = _context(short, classifier, precision, num_classes, cache)
        started = time.perf_counter()
        prepared = prepare_stage(context, number)
        check_s = time.perf_counter() - started - cache.seconds()
        prepared.predict(context.valid, VALID)  # the first call makes the features
        started = time.perf_counter()
        prepared.predict(context.valid, VALID)
        forward_s = time.perf_counter() - started
        trace_s, images_per_s = _time_training(short, number, prepared, context)
    forward_photos = EXTRACTION_BATCH if prepared.cut is None else SUFFIX_BATCH
    return StageTimes(
        is_cut_refused=prepared.cut is None,
        check_s=check_s,
        entry_s=cache.first_s(),
        entry_batch_s=cache.further_s(),
        trace_s=trace_s,
        images_per_s=images_per_s,
        forward_photos=forward_photos,
        forward_s=forward_s / math.ceil(_PROBE_PHOTOS / forward_photos),
    )


def time_saving(plan: Plan, classifier: Classifier) -> float:
    """Seconds that saving the model takes, in every format that the run will save."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        started = time.perf_counter()
        classifier.probabilities.save(Path(folder) / "model.keras")
        if plan.config.save.h5:
            save_h5(classifier.probabilities, Path(folder) / "model.h5")
        return time.perf_counter() - started


@dataclass(frozen=True)
class _TimedCache(FeatureCache):
    """A feature cache that notes when each batch of an entry was there."""

    marks: list[list[float]] = field(default_factory=list)

    def put(self, key: str, batches: Iterator[Arrays], photos: int, note: str) -> Arrays:
        marks = [time.perf_counter()]

        def marked() -> Iterator[Arrays]:
            for batch in batches:
                marks.append(time.perf_counter())
                yield batch

        arrays = super().put(key, marked(), photos, note)
        self.marks.append([*marks, time.perf_counter()])
        return arrays

    def seconds(self) -> float:
        return sum(marks[-1] - marks[0] for marks in self.marks)

    def first_s(self) -> float:
        return statistics.median(marks[1] - marks[0] for marks in self.marks) if self.marks else 0.0

    def further_s(self) -> float:
        spans = [((marks[-1] - marks[1]), len(marks) - 3) for marks in self.marks if len(marks) > 3]
        return sum(s for s, _ in spans) / sum(n for _, n in spans) if spans else 0.0


def _ignore(_: str) -> None:
    """A cache that is thrown away has nothing to say."""


def _shortened(plan: Plan, batch_size: int, steps: int) -> Plan:
    """The plan with one view, the batch that real photos fill, and a few steps an epoch."""
    config = plan.config
    cache = config.cache.model_copy(update={"views": 1, "require": "close"})
    train = config.train.model_copy(update={"batch_size": batch_size, "draws_per_epoch": steps * batch_size})
    return dataclasses.replace(plan, config=config.model_copy(update={"cache": cache, "train": train}))


def _context(plan: Plan, classifier: Classifier, precision: str, num_classes: int, cache: FeatureCache) -> StageContext:
    config, batch_size = plan.config, plan.config.train.batch_size
    whole_batches = batch_size * math.ceil(2 * EXTRACTION_BATCH / batch_size)
    return StageContext(
        plan=plan,
        classifier=classifier,
        contract=contract_of(config.pixels, plan.spec),
        precision=precision,
        augmenter=build_augmenter(plan),
        train=_random_photos(whole_batches, config.pixels.size_px, num_classes, seed=0),
        valid=_random_photos(_PROBE_PHOTOS, config.pixels.size_px, num_classes, seed=1),
        classes=tuple(map(str, range(num_classes))),
        held_out=frozenset(),
        cache=cache,
        progress=Progress(is_quiet=True),
    )


def _random_photos(count: int, size_px: int, num_classes: int, *, seed: int) -> DecodedPhotos:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)
    names = tuple(f"{seed:032x}{i:032x}"[::-1] for i in range(count))
    return DecodedPhotos(pixels, generator.integers(0, num_classes, count), names)


class Rows(list[Row]):
    """A sink that keeps the rows."""

    def keep(self, row: Row, state: StageState) -> None:
        """See `EpochSink`."""
        self.append(row)

    def name_photos(self, indices: Sequence[int]) -> str:
        """See `EpochSink`."""
        return f"{len(indices)} random ones"


class Unscored:
    """A network whose validation takes no time."""

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes

    def predict(self, photos: DecodedPhotos, what: str) -> NDArray[np.float32]:
        """See `Network`."""
        return np.zeros((len(photos.labels), self._num_classes), np.float32)


def _time_training(plan: Plan, number: int, prepared: Prepared, context: StageContext) -> tuple[float, float]:
    """Seconds of tracing a step, and images a second once it is traced; of a stage that is solved, as if it were trained."""
    asked = plan.stages[number].config
    stage = asked if asked.kind == "fit" else FitStage()
    optimizer = stage.optimizer.model_copy(update={"learning_rate": _LEARNING_RATE})
    rows = Rows()
    run_fit(
        FitJob(
            stage=stage.model_copy(update={"epochs": _EPOCHS, "optimizer": optimizer}),
            model=prepared.model,
            rates=prepared.freezing.rates,
            feed=prepared.feed,
            validator=Validator(Unscored(context.num_classes), context.valid.take([0]), None, plan.config.seed),
            first_epoch=0,
            total_epochs=_EPOCHS,
            sink=rows,
            progress=context.progress,
        )
    )
    steady_s = sum(row["seconds"] for row in rows[1:])
    images_per_s = sum(row["draws"] for row in rows[1:]) / max(steady_s, 1e-3)
    return max(0.0, rows[0]["seconds"] - steady_s / (_EPOCHS - 1)), images_per_s
