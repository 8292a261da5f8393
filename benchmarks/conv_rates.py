"""The machine's best convolution rate at the shape of each VGG16 layer at 100 px, batch 32: the limit that a phase is held against.

    python benchmarks/conv_rates.py [--repeats N] [--json]

One 3 × 3 convolution alone (TensorFlow, `tf.function`, no bias, no activation), the fastest of N. GFLOP/s; a
multiply-add is two. On the processor only: on a GPU a call would return before its work is done.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from common import new_parser

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

BATCH_SIZE = 32
PRECISIONS = ("float32", "bfloat16")
Rates = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Convolution:
    """A 3 × 3 convolution with stride 1 and SAME padding on square maps."""

    name: str
    side_px: int
    channels: int
    filters: int

    @property
    def flop(self) -> float:
        """Arithmetic of one photo, forward."""
        return 2.0 * 9 * self.side_px**2 * self.channels * self.filters


PREFIX = (
    Convolution("block1_conv1", 100, 3, 64),
    Convolution("block1_conv2", 100, 64, 64),
    Convolution("block2_conv1", 50, 64, 128),
    Convolution("block2_conv2", 50, 128, 128),
    Convolution("block3_conv1", 25, 128, 256),
    Convolution("block3_conv2", 25, 256, 256),
    Convolution("block3_conv3", 25, 256, 256),
    Convolution("block4_conv1", 12, 256, 512),
    Convolution("block4_conv2", 12, 512, 512),
    Convolution("block4_conv3", 12, 512, 512),
)
SUFFIX = tuple(Convolution(f"block5_conv{i}", 6, 512, 512) for i in (1, 2, 3))
"""VGG16 at 100 px, frozen and trained convolutions. Source: Simonyan & Zisserman 2015, arXiv:1409.1556, table 1, configuration D."""
_PASSES = {
    "prefix": (1, 0),
    "suffix": (0, 1),
    "forward": (1, 1),
    "train_suffix": (0, 8 / 3),
    "train_whole": (1, 8 / 3),
}
"""How often each part's forward arithmetic is done for one photo. Training block 5: forward, every filter's gradient, and the gradient of
every input but the first one's: 3 + 3 + 2 convolutions where forward has 3."""


def photo_flop(phase: str) -> float:
    """Arithmetic of one photo's convolutions in a phase."""
    prefix, suffix = _PASSES[phase]
    return prefix * sum(c.flop for c in PREFIX) + suffix * sum(c.flop for c in SUFFIX)


def limit_s(phase: str, rates: Rates, precision: str) -> float:
    """Seconds a photo would take in a phase if every convolution ran at the machine's best rate at its shape."""
    prefix, suffix = _PASSES[phase]
    parts = [(prefix, c) for c in PREFIX] + [(suffix, c) for c in SUFFIX]
    return sum(times * c.flop / (rates[c.name][precision] * 1e9) for times, c in parts if times)


def measure_rates(repeats: int) -> dict[str, dict[str, float]]:
    """GFLOP/s of each layer's shape in each precision, the fastest of `repeats`."""
    shapes = {(c.side_px, c.channels, c.filters): c for c in (*PREFIX, *SUFFIX)}
    best = {
        shape: {precision: measure_rate(convolution, precision, repeats) for precision in PRECISIONS}
        for shape, convolution in shapes.items()
    }
    return {c.name: best[c.side_px, c.channels, c.filters] for c in (*PREFIX, *SUFFIX)}


def measure_rate(convolution: Convolution, precision: str, repeats: int) -> float:
    """GFLOP/s of one convolution."""
    import tensorflow as tf

    side, channels, filters = convolution.side_px, convolution.channels, convolution.filters
    x = tf.cast(tf.random.normal((BATCH_SIZE, side, side, channels)), precision)
    kernel = tf.cast(tf.random.normal((3, 3, channels, filters)), precision)
    step = tf.function(lambda a, b: tf.nn.conv2d(a, b, strides=1, padding="SAME"))
    for _ in range(2):  # the graph is built, memory is had
        step(x, kernel)
    return BATCH_SIZE * convolution.flop / min(_timed(lambda: step(x, kernel)) for _ in range(repeats)) / 1e9


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rates = measure_rates(asked.repeats)
    print(json.dumps(rates) if asked.json else describe(rates))


def describe(rates: Rates) -> str:
    lines = [f"{'layer':14}" + "".join(f"{precision:>18}" for precision in PRECISIONS)]
    lines += [f"{name:14}" + "".join(f"{row[p]:11.0f} GFLOP/s" for p in PRECISIONS) for name, row in rates.items()]
    for phase in _PASSES:
        at_best = "".join(f"{1 / limit_s(phase, rates, p):9.1f} images/s" for p in PRECISIONS)
        lines.append(f"{phase:14}{at_best}   {photo_flop(phase) / 1e9:.2f} GFLOP a photo")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
