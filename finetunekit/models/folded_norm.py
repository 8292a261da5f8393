"""Frozen BatchNorm computed as part of the convolution before it.

Where its statistics do not move, a BatchNorm multiplies each channel by a constant and adds another. On its own it reads and writes the
whole map twice, forward and again for the gradient; multiplied into the kernel of the convolution it costs nothing, and the sums are the
same but for rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from finetunekit.models.branches import branch_by_branch
from finetunekit.models.frozen_prefix import nodes_before

if TYPE_CHECKING:
    import keras


@contextmanager
def folded_norms(model: keras.Model, *, is_trained: bool = True) -> Iterator[int]:
    """Let convolutions take over the BatchNorm after them; it must be entered before the first graph is traced.

    Args:
        model: What is traced, flags set. A model inside it stays as it is.
        is_trained: Whether it is traced as it trains; otherwise no statistics move, whatever is frozen.

    Yields:
        How many BatchNorm layers are folded.
    """
    pairs = find_pairs(model, is_trained=is_trained)
    for convolution, norm in pairs:
        convolution.call = _folded(convolution, norm)
        norm.call = _passed
    try:
        yield len(pairs)
    finally:
        for convolution, norm in pairs:
            del convolution.call, norm.call


def trace_forward(model: keras.Model, *specs: Any) -> Any:
    """A graph of a network's answers, not of its training.

    Args:
        model: Any inputs → any outputs.
        specs: `tf.TensorSpec` of each input.

    Returns:
        A concrete function of a tensor for each input; it follows the weights where they change.
    """
    import tensorflow as tf

    answer = branch_by_branch(model)
    with folded_norms(model, is_trained=False):
        graph = tf.function(lambda *x: answer(x[0] if len(x) == 1 else list(x)), autograph=False)
        return graph.get_concrete_function(*specs)


def find_pairs(model: keras.Model, *, is_trained: bool = True) -> list[tuple[Any, Any]]:
    """Convolutions of a model and the BatchNorm layers, their statistics fixed, that alone read what they make."""
    nodes = list(nodes_before(*model.outputs))
    calls = Counter(id(node.operation) for node in nodes)
    read = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    read.update(id(tensor) for tensor in model.outputs)
    found = []
    for node in nodes:
        if not _is_norm(node.operation) or (is_trained and node.operation.trainable):
            continue
        (tensor,) = node.input_tensors
        before = tensor._keras_history.operation
        once = calls[id(before)] == calls[id(node.operation)] == read[id(tensor)] == 1
        if once and _is_plain(before) and before.compute_dtype == node.operation.compute_dtype == "float32":
            found.append((before, node.operation))
    return found


def _is_norm(layer: Any) -> bool:
    import keras

    return type(layer) is keras.layers.BatchNormalization and layer.axis in (-1, 3)


def _is_plain(layer: Any) -> bool:
    """A convolution with nothing between its sums and its output."""
    import keras

    if type(layer) not in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D):
        return False
    return layer.activation is keras.activations.linear and layer.data_format == "channels_last"


def _passed(inputs: Any, training: bool | None = None, mask: Any | None = None) -> Any:
    return inputs


def _folded(layer: Any, norm: Any) -> Callable[[Any], Any]:
    """The convolution's `call`, with kernel and bias as the BatchNorm after it would have them."""
    import keras
    from keras import ops

    def call(inputs: Any) -> Any:
        scale, shift = _constants(norm)
        if layer.use_bias:
            shift = shift + ops.convert_to_tensor(layer.bias) * scale
        kernel = ops.convert_to_tensor(layer.kernel)
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            kernel = kernel * ops.reshape(scale, kernel.shape[2:])
            made = ops.depthwise_conv(
                inputs, kernel, layer.strides, layer.padding, layer.data_format, layer.dilation_rate
            )
        else:
            made = layer.convolution_op(inputs, kernel * scale)
        return _with_bias(made, shift)

    return call


def _with_bias(maps: Any, bias: Any) -> Any:
    """As one operation, which TensorFlow joins to the convolution and to the activation after it."""
    import tensorflow as tf

    return tf.nn.bias_add(maps, bias)


def _constants(norm: Any) -> tuple[Any, Any]:
    """What a frozen BatchNorm multiplies each channel by, and what it adds, `(channels,)` each.

    Source: Ioffe and Szegedy 2015, algorithm 2, arXiv:1502.03167.
    """
    from keras import ops

    scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma
    shift = -norm.moving_mean * scale
    return scale, shift + norm.beta if norm.center else shift
