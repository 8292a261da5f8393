"""Images a second of finetunekit's augmentation against Keras' ImageDataGenerator, in one run, interleaved.

    python benchmarks/bench_augmentation.py [--rounds N] [--photos N] [--size PX]

The experiment's augmentation (shear 0.2 degrees, zoom 0.2, horizontal flip), batches of 32, pixels in [0, 255]. Every round times one
epoch of each contestant, one after the other; the ratios are medians over the rounds, so that a busy machine slows all alike.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import new_parser

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from finetunekit_builtin.keras_generator import KerasGeneratorOptions, build_keras_generator
from PIL import Image
from tensorflow.keras.preprocessing.image import ImageDataGenerator

from finetunekit import Augmentation
from finetunekit.data.augmentation import AugmentComponent, Augmenter
from finetunekit.training.sampling import draw_epoch

BATCH_SIZE = 32
CLASSES = 4
TARGET = 3.0
PARAMETERS: dict[str, Any] = {"shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True}
Epoch = Callable[[int], int]


def make_photos(count: int, size_px: int) -> np.ndarray:
    """Smooth random photos, `(count, size_px, size_px, 3)` uint8: coarse noise scaled up."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    scaled = [Image.fromarray(photo).resize((size_px, size_px), Image.Resampling.BICUBIC) for photo in noise]
    return np.stack([np.asarray(photo) for photo in scaled])


def write_jpegs(photos: np.ndarray, folder: Path) -> None:
    """Write photos as 75 px JPEGs into one folder a class, as the experiment had them."""
    for number, photo in enumerate(photos):
        path = folder / f"class{number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photo).resize((75, 75)).save(path, quality=90)


def build_ours(parts: Sequence[tuple[Augmentation, ...]], photos: np.ndarray, labels: np.ndarray) -> Epoch:
    augmenter = Augmenter([AugmentComponent(i, f"augment[{i}]", part) for i, part in enumerate(parts)])

    def epoch(number: int) -> int:
        draws = draw_epoch(photos=len(photos), draws=None, batch_size=BATCH_SIZE, seed=0, view_seed=0, epoch=number)
        done = 0
        for batch in draws.batches():
            drawn = draws.photo[batch]
            images, _ = augmenter(photos[drawn], labels[drawn], draws.key[batch])
            done += len(images.numpy())
        return done

    return epoch


def build_opponent(iterator: Any) -> Epoch:
    def epoch(number: int) -> int:
        iterator.reset()
        return sum(len(iterator[i][0]) for i in range(len(iterator)))

    return epoch


def measure(contestants: dict[str, Epoch], rounds: int) -> dict[str, list[float]]:
    """Images a second of every contestant in every round; round 0 warms up and is not kept."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, epoch in contestants.items():
            start = time.perf_counter()
            done = epoch(number)
            rates[name].append(done / (time.perf_counter() - start))
    return {name: values[1:] for name, values in rates.items()}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--size", type=int, default=100, metavar="PX")
    asked = parser.parse_args()
    photos = make_photos(asked.photos, asked.size)
    labels = np.eye(CLASSES, dtype=np.float32)[np.arange(asked.photos) % CLASSES]
    generator = ImageDataGenerator(**PARAMETERS)
    steps = build_keras_generator(KerasGeneratorOptions(**PARAMETERS))
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(photos, Path(folder))
        from_jpeg = generator.flow_from_directory(folder, target_size=photos.shape[1:3], batch_size=BATCH_SIZE)
        contestants = {
            "finetunekit, from RAM": build_ours([steps], photos, labels),
            "ImageDataGenerator, from RAM": build_opponent(generator.flow(photos, labels, batch_size=BATCH_SIZE)),
            "ImageDataGenerator, from JPEG": build_opponent(from_jpeg),
        }
        rates = measure(contestants, asked.rounds)
    report(rates)


def report(rates: dict[str, list[float]]) -> None:
    ours = next(iter(rates.values()))
    for name, values in rates.items():
        ratios = [own / other for own, other in zip(ours, values, strict=True)]
        spread = f"{min(values):.0f} to {max(values):.0f}"
        print(f"{name:30} {statistics.median(values):6.0f} images/s ({spread})   ratio {statistics.median(ratios):.2f}")
    ratio = statistics.median(own / other for own, other in zip(ours, list(rates.values())[1], strict=True))
    verdict = "met" if ratio >= TARGET else "missed"
    print(f"augmentation: {ratio:.2f} x ImageDataGenerator from RAM; target {TARGET:.0f} x {verdict}")


if __name__ == "__main__":
    main()
