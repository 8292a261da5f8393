"""The training step from cached features, with TensorFlow's weight gradient and with ours, interleaved in one run.

    python benchmarks/bench_kernels.py [--rounds 30]

Prints, in each precision, for block 5 of VGG16 at 100 px and a batch of 32: the median time of each kernel and of a whole step, and
their ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from common import new_parser

from finetunekit.system.environment import start_tensorflow

BATCH, SIDE_PX, CHANNELS = 32, 6, 512
#: One convolution, forward or either gradient: 2 × 3 × 3 × channels² for each output pixel.
GFLOP = 2 * 9 * CHANNELS**2 * BATCH * SIDE_PX**2 / 1e9


def medians(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, one after the other in every round, two rounds unmeasured."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 2):
        for name, work in contestants.items():
            started = time.perf_counter()
            work()
            if number >= 2:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def kernels(precision: str) -> dict[str, Callable[[], object]]:
    """Forward pass and both gradients of one convolution."""
    import tensorflow as tf

    from finetunekit.models.conv_gradient import _kernel_gradient

    generator = np.random.default_rng(0)
    shape = (BATCH, SIDE_PX, SIDE_PX, CHANNELS)
    x, upstream = (tf.cast(generator.normal(size=shape), precision) for _ in range(2))
    kernel = tf.cast(generator.normal(size=(3, 3, CHANNELS, CHANNELS)) / 70, precision)
    raw = tf.raw_ops
    return {
        "forward": tf.function(lambda: tf.nn.conv2d(x, kernel, 1, "SAME")),
        "gradient of the input": tf.function(
            lambda: raw.Conv2DBackpropInput(
                input_sizes=shape, filter=kernel, out_backprop=upstream, strides=[1] * 4, padding="SAME"
            )
        ),
        "gradient of the weights, TensorFlow": tf.function(
            lambda: raw.Conv2DBackpropFilter(
                input=x, filter_sizes=kernel.shape, out_backprop=upstream, strides=[1] * 4, padding="SAME"
            )
        ),
        "gradient of the weights, ours": tf.function(lambda: _kernel_gradient(x, upstream, kernel.shape)),
    }


def steps(precision: str) -> dict[str, Callable[[], object]]:
    """A whole training step of block 5 and the experiment's head, from features, by either way."""
    from finetunekit.models.conv_gradient import fast_gradients

    plain, fast = _suffix(precision), _suffix(precision)
    x, y = _batch()
    with fast_gradients(fast) as count:
        assert count == 3
        fast.train_on_batch(x, y)  # traced here, by way of our gradient
    return {
        "step, TensorFlow": lambda: plain.train_on_batch(x, y),
        "step, ours": lambda: fast.train_on_batch(x, y),
    }


def _batch() -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    x = generator.random((BATCH, SIDE_PX, SIDE_PX, CHANNELS), dtype=np.float32)
    return x, np.eye(4, dtype=np.float32)[generator.integers(0, 4, BATCH)]


def _suffix(precision: str) -> Any:
    import keras

    from finetunekit.models.classifier import precision_scope

    with precision_scope(precision):
        inputs = keras.Input((SIDE_PX, SIDE_PX, CHANNELS), dtype=precision)
        x = inputs
        for _ in range(3):
            x = keras.layers.Conv2D(CHANNELS, 3, padding="same", activation="relu")(x)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D()(x))
        x = keras.layers.Dense(1024, activation="relu")(x)
        model = keras.Model(inputs, keras.layers.Dense(4, dtype="float32")(x))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), loss, metrics=["accuracy"])
    return model


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    start_tensorflow()
    for precision in ("float32", "bfloat16"):
        print(precision)
        show(medians(kernels(precision), rounds), medians(steps(precision), rounds))


def show(single: Mapping[str, float], whole: Mapping[str, float]) -> None:
    for name, seconds in single.items():
        print(f"  {name:38} {seconds * 1e3:7.1f} ms  {GFLOP / seconds:6.0f} GFLOP/s")
    for name, seconds in whole.items():
        print(f"  {name:38} {seconds * 1e3:7.1f} ms  {BATCH / seconds:6.0f} photos/s")
    weights = single["gradient of the weights, TensorFlow"] / single["gradient of the weights, ours"]
    print(f"  weight gradient {weights:.2f}x, whole step {whole['step, TensorFlow'] / whole['step, ours']:.2f}x")


if __name__ == "__main__":
    main()
