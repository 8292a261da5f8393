"""Images a second of each built-in augmentation, in one run, interleaved.

    python benchmarks/bench_augmentations.py [--rounds N] [--photos N] [--size PX]

Batches of 32 photos from memory, on as many threads as TensorFlow takes. A stage augments in a thread of its own while it trains, and
fresh views go through the whole network: a step that augments more photos a second than the network trains costs little. The last column
is the median over the rounds of how many times longer a step takes than the first of the list.
"""

from __future__ import annotations

import os
import statistics

from common import new_parser

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from bench_augmentation import CLASSES, build_ours, make_photos, measure
from finetunekit_builtin import augmentations as aug
from finetunekit_builtin.keras_generator import KerasGeneratorOptions, build_keras_generator

from finetunekit import Augmentation

STEPS: dict[str, tuple[tuple[Augmentation, ...], ...]] = {
    "keras_generator": (build_keras_generator(KerasGeneratorOptions(zoom_range=0.2, horizontal_flip=True)),),
    "flip": (aug.build_flip(aug.FlipOptions()),),
    "random_resized_crop": (aug.build_random_resized_crop(aug.RandomResizedCropOptions()),),
    "random_resized_crop + flip": (
        aug.build_random_resized_crop(aug.RandomResizedCropOptions()),
        aug.build_flip(aug.FlipOptions()),
    ),
    "color_jitter": (aug.build_color_jitter(aug.ColorJitterOptions()),),
    "color_jitter with hue": (aug.build_color_jitter(aug.ColorJitterOptions(hue=0.1)),),
    "rand_augment": (aug.build_rand_augment(aug.RandAugmentOptions()),),
    "random_erasing": (aug.build_random_erasing(aug.RandomErasingOptions()),),
    "mixup": (aug.build_mixup(aug.MixupOptions()),),
    "cutmix": (aug.build_cutmix(aug.CutmixOptions()),),
    "keras_layers (RandomFlip)": (aug.build_keras_layers(aug.KerasLayersOptions()),),
}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--size", type=int, default=100, metavar="PX")
    asked = parser.parse_args()
    photos = make_photos(asked.photos, asked.size)
    labels = np.eye(CLASSES, dtype=np.float32)[np.arange(asked.photos) % CLASSES]
    contestants = {name: build_ours(steps, photos, labels) for name, steps in STEPS.items()}
    rates = measure(contestants, asked.rounds)
    first = next(iter(rates.values()))
    for name, values in rates.items():
        spread = f"{min(values):.0f} to {max(values):.0f}"
        cost = statistics.median(own / other for own, other in zip(first, values, strict=True))
        median = statistics.median(values)
        print(f"{name:28} {median:6.0f} images/s ({spread}) at {asked.size} px   time {cost:.1f} x {next(iter(rates))}")


if __name__ == "__main__":
    main()
