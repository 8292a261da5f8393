"""A faster weight gradient for convolutions of small feature maps on a CPU.

oneDNN's weight gradient of a small feature map runs at half the rate of its forward pass or less. The same sums, one matrix product for
each position of the kernel, are faster in float32 and in bfloat16 (`benchmarks/bench_kernels.py` prints both on the machine at hand).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

LARGEST_MAP = 14 * 14
"""Positions up to which the products win: at 12 x 12 by 1.2 to 1.4, at 25 x 25 they lose by 1.1 (batch 32, two cores)."""


def conv2d_same(x: Any, kernel: Any) -> Any:
    """Stride-1 convolution that keeps height and width, with its weight gradient as matrix products.

    Args:
        x: `(batch, height, width, channels)`, float32 or bfloat16.
        kernel: `(rows, columns, channels, filters)` of the same type, rows and columns odd.

    Returns:
        `(batch, height, width, filters)`: TensorFlow's own convolution. The gradient of `x` is TensorFlow's own too; that of `kernel`
        is the same sum, added up in float32 in another order and rounded once.
    """
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolve(x: Any, kernel: Any) -> Any:
        def gradient(upstream: Any) -> tuple[Any, Any]:
            of_input = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
            )
            return of_input, _kernel_gradient(x, upstream, kernel.shape)

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient

    return convolve(x, kernel)


def _kernel_gradient(x: Any, upstream: Any, shape: Any) -> Any:
    import tensorflow as tf

    rows, columns, channels, filters = shape
    height, width = upstream.shape[1], upstream.shape[2]
    above, left = rows // 2, columns // 2
    around = tf.pad(x, [[0, 0], [above, above], [left, left], [0, 0]])
    flat = tf.reshape(upstream, (-1, filters))  # (batch * height * width, filters)
    products = [
        tf.matmul(tf.reshape(around[:, r : r + height, c : c + width, :], (-1, channels)), flat, transpose_a=True)
        for r in range(rows)
        for c in range(columns)
    ]
    return tf.reshape(tf.stack(products), (rows, columns, channels, filters))


def is_eligible(layer: keras.Layer) -> bool:
    """Whether `conv2d_same` computes what a layer computes, and sooner: a plain `Conv2D` of stride 1 on a small map that keeps its size."""
    import keras

    if type(layer) is not keras.layers.Conv2D:
        return False
    try:
        place = tuple(layer.output.shape[1:3])
    except AttributeError:  # inside another layer, where the size of its map is not known
        return False
    if None in place:
        return False
    return (
        layer.trainable
        and layer.compute_dtype in ("float32", "bfloat16")
        and place[0] * place[1] <= LARGEST_MAP
        and (layer.strides, layer.dilation_rate, layer.groups) == ((1, 1), (1, 1), 1)
        and (layer.padding, layer.data_format) == ("same", "channels_last")
        and all(side % 2 for side in layer.kernel_size)
    )


@contextmanager
def fast_gradients(model: keras.Model) -> Iterator[int]:
    """Let the eligible layers of a model train by way of `conv2d_same`; it must be entered before the first step is traced.

    Yields:
        How many layers are eligible; none on a GPU, whose own kernels are the faster ones.
    """
    import tensorflow as tf

    is_cpu = not tf.config.list_physical_devices("GPU")
    layers = [layer for layer in model._flatten_layers() if is_eligible(layer)] if is_cpu else []
    for layer in layers:
        layer.convolution_op = conv2d_same
    try:
        yield len(layers)
    finally:
        for layer in layers:
            del layer.convolution_op
