"""What input costs a training step: the real feed against synthetic tensors, in the engine's own training loop, interleaved.

    python benchmarks/bench_input.py [--feeds bank,pixels] [--rounds N] [--draws N] [--photos N] [--precision auto]

The network of felidae4 is trained by `run_fit` on random photos. Epochs alternate: one from the real feed (drawn, augmented or taken from
the bank, made in the engine's prefetching thread), one from tensors made before. Each pair of neighbours gives a ratio of step times; the
median over pairs is printed. The first pair builds graphs and is left out. Pretrained weights would change no time: these are random.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from common import PRESET, describe_machine, new_parser, show_spread

from finetunekit.config.pixel_contract import contract_of
from finetunekit.config.planning import prepare
from finetunekit.data.decoded_photos import DecodedPhotos
from finetunekit.models.classifier import build_classifier
from finetunekit.models.feature_cache import FeatureCache
from finetunekit.system.environment import prepare_tensorflow, resolve_precision
from finetunekit.system.progress import Progress
from finetunekit.training.batches import Batch, Draws, Feed
from finetunekit.training.fit import run_fit
from finetunekit.training.prepare_stage import build_augmenter, prepare_stage
from finetunekit.training.stage_context import Prepared, StageContext
from finetunekit.training.stage_job import FitJob
from finetunekit.training.step_timing import Rows, Unscored
from finetunekit.training.validation import Validator

FEEDS = {"bank": "bank", "pixels": "exact"}
TARGET = 0.03
CLASSES = 4
QUIET = Progress(is_quiet=True)


@dataclass(frozen=True, slots=True)
class Alternating:
    """The real feed in even epochs, tensors made before in odd ones, in batches of the same sizes.

    Attributes:
        real: The feed to be measured.
        ready: Batch size → a batch that lies in memory.
    """

    real: Feed
    ready: dict[int, Batch]

    @property
    def draws(self) -> Draws:
        """As the real feed's."""
        return self.real.draws

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Batches of one epoch."""
        if epoch % 2 == 0:
            return self.real.batches(epoch)
        drawn = self.draws.epoch(epoch)
        return (self.ready[part.stop - part.start] for part in drawn.batches())


def alternate(real: Feed) -> Alternating:
    """Keep one batch of each size of the real feed as tensors."""
    import tensorflow as tf

    ready: dict[int, Batch] = {}
    for batch in real.batches(0):
        if len(batch.photos) not in ready:
            x = tf.nest.map_structure(tf.constant, batch.x)
            ready[len(batch.photos)] = Batch(x, tf.constant(batch.y), batch.photos)
    return Alternating(real, ready)


def random_photos(count: int, size_px: int, seed: int) -> DecodedPhotos:
    """Photos of noise, classes in turn."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)
    names = tuple(generator.bytes(32).hex() for _ in range(count))
    return DecodedPhotos(pixels, np.arange(count, dtype=np.int64) % CLASSES, names)


def prepare_feed(feed: str, photos: int, settings: Sequence[str], cache: Path) -> tuple[Prepared, StageContext]:
    """The preset's first stage on random photos, with random weights."""
    plan, _ = prepare(str(PRESET), settings=[*settings, f"cache.mode={FEEDS[feed]}"], progress=QUIET)
    prepare_tensorflow(seed=0, is_deterministic=plan.config.deterministic)
    precision, size_px = resolve_precision(plan.config.precision), plan.config.pixels.size_px
    context = StageContext(
        plan=plan,
        classifier=build_classifier(plan.network, CLASSES, precision),
        contract=contract_of(plan.config.pixels, plan.spec),
        precision=precision,
        augmenter=build_augmenter(plan),
        train=random_photos(photos, size_px, 0),
        valid=random_photos(CLASSES, size_px, 1),
        classes=tuple(map(str, range(CLASSES))),
        held_out=frozenset(),
        cache=FeatureCache(cache, 1 << 40, QUIET.say),
        progress=QUIET,
    )
    return prepare_stage(context, 0), context


def measure(prepared: Prepared, context: StageContext, rounds: int) -> list[tuple[float, float]]:
    """Seconds a draw from the real feed and from tensors, for each pair of epochs after the first."""
    rows = Rows()
    stage = context.plan.stages[0].config
    assert stage.kind == "fit"
    run_fit(
        FitJob(
            stage=stage.model_copy(update={"epochs": 2 * (rounds + 1)}),
            model=prepared.model,
            rates=prepared.freezing.rates,
            feed=alternate(prepared.feed),
            validator=Validator(Unscored(CLASSES), context.valid, None, 0),
            first_epoch=0,
            total_epochs=2 * (rounds + 1),
            sink=rows,
            progress=QUIET,
        )
    )
    seconds = [row["seconds"] / row["draws"] for row in rows[2:]]
    return list(zip(seconds[::2], seconds[1::2], strict=True))


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--feeds", default=",".join(FEEDS), help="bank, pixels or both, parted by a comma")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of epochs")
    parser.add_argument("--draws", type=int, default=632, help="an epoch; 632 is one pass over 600 and a batch")
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    asked = parser.parse_args()
    if unknown := set(asked.feeds.split(",")) - set(FEEDS):
        parser.error(f"--feeds: {', '.join(sorted(unknown))} unknown; choose from {', '.join(FEEDS)}")
    print(describe_machine(), flush=True)
    settings = [
        f"train.draws_per_epoch={asked.draws}",
        f"cache.views={asked.views}",
        f"precision={asked.precision}",
    ]
    for feed in asked.feeds.split(","):
        with tempfile.TemporaryDirectory() as cache:
            prepared, context = prepare_feed(feed, asked.photos, settings, Path(cache))
            report(feed, measure(prepared, context, asked.rounds), f"{context.precision}; {prepared.mode}")


def report(feed: str, pairs: Sequence[tuple[float, float]], how: str) -> None:
    costs = [real / synthetic - 1 for real, synthetic in pairs]
    for name, seconds in zip(("real feed", "synthetic tensors"), zip(*pairs, strict=True), strict=True):
        print(f"{feed}: {name:18} {show_spread([1 / s for s in seconds])} images/s")
    cost = statistics.median(costs)
    verdict = "met" if cost <= TARGET else "missed"
    spread = f"{min(costs):.1%} to {max(costs):.1%}"
    print(f"{feed}: input costs {cost:.1%} of a step ({spread}); target {TARGET:.0%} {verdict}   [{how}]", flush=True)


if __name__ == "__main__":
    main()
