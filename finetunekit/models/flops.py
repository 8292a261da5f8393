"""Multiply-adds of a network, counted exactly on its graph: a layer used twice counts twice.

Counted: convolutions (strided, dilated, grouped, depthwise, separable, transposed; products with padding included, as kernels compute
them), dense layers of any rank, `EinsumDense` and multi-head attention. Pooling, activations, normalisation, biases and other layers
without weights count 0. What cannot be counted is named, never silently 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

Shape = tuple[int | None, ...]

COUNTED = "convolutions, dense layers and attention; all else as 0"

#: Layers with weights whose arithmetic is element by element, or a look-up.
_NO_MULTIPLY_ADDS = (
    "BatchNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "UnitNormalization",
    "RMSNormalization",
    "SpectralNormalization",
    "Normalization",
    "PReLU",
    "LayerScale",  # of ConvNeXt in keras.applications: one factor a channel
    "Embedding",
)
#: Operations without weights that multiply matrices all the same; their cost is not counted here.
_PRODUCTS_WITHOUT_WEIGHTS = (
    "Attention",
    "AdditiveAttention",
    "Conv",
    "ConvTranspose",
    "DepthwiseConv",
    "Dot",
    "DotProductAttention",
    "Einsum",
    "Inner",
    "Lambda",
    "Matmul",
    "SeparableConv",
    "Tensordot",
    "Vdot",
)


@dataclass(frozen=True, slots=True)
class Use:
    """One use of one layer in a graph.

    Attributes:
        path: As in `freezing.leaf_layers`.
        class_name: Keras class.
        output_shape: `(batch, ...)`, the batch being None; None where there are several outputs.
        multiply_adds: Of one photo; None where they cannot be counted.
    """

    path: str
    class_name: str
    output_shape: Shape | None
    multiply_adds: int | None


def count_uses(model: keras.Model) -> tuple[Use, ...]:
    """Every use of every layer of a graph, inputs first; nested models are opened."""
    return tuple(_uses(model, ""))


def total_multiply_adds(uses: Iterable[Use]) -> int:
    """Of one photo, forward; what cannot be counted is left out (see `not_counted`)."""
    return sum(use.multiply_adds or 0 for use in uses)


def not_counted(uses: Iterable[Use]) -> tuple[str, ...]:
    """`path (class)` of what cannot be counted, each once."""
    return tuple(dict.fromkeys(f"{use.path} ({use.class_name})" for use in uses if use.multiply_adds is None))


def _uses(model: Any, prefix: str) -> Iterator[Use]:
    for node in _nodes(model):
        layer = node.operation
        path, inputs = f"{prefix}{layer.name}", [tuple(t.shape) for t in node.input_tensors]
        inner = getattr(layer, "_functional", None) or layer
        if hasattr(inner, "_nodes_by_depth") and [tuple(t.shape) for t in inner.inputs] == inputs:
            yield from _uses(inner, f"{path}/")
            continue
        outputs = [tuple(t.shape) for t in node.output_tensors]
        shape = outputs[0] if len(outputs) == 1 else None
        yield Use(path, type(layer).__name__, shape, count_multiply_adds(layer, inputs, shape))


def _nodes(model: Any) -> Iterator[Any]:
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from model._nodes_by_depth[depth]


def count_multiply_adds(layer: Any, inputs: Sequence[Shape], output: Shape | None) -> int | None:
    """Multiply-adds of one photo through one layer.

    Args:
        layer: A built Keras layer or operation.
        inputs: Shapes of its inputs, batch first.
        output: Shape of its output; None where it has several.

    Returns:
        The exact number; None where the layer is not known here or a side is not fixed.

    Source: a convolution computes (positions of its output) x (values of its kernel) products, Goodfellow et al. 2016, section 9.1;
    attention: Vaswani et al. 2017, section 3.2, arXiv:1706.03762.
    """
    import keras

    kinds = keras.layers
    if isinstance(layer, kinds.MultiHeadAttention):
        return _attention(layer, inputs)
    if isinstance(layer, kinds.EinsumDense):
        return _einsum(layer, inputs[0])
    if isinstance(layer, kinds.Dense):
        return _product([*(output or (None, None))[1:-1], *layer.kernel.shape])
    if isinstance(layer, (kinds.Conv1DTranspose, kinds.Conv2DTranspose, kinds.Conv3DTranspose)):
        return _product([*_positions(layer, inputs[0]), *layer.kernel.shape])
    values = _kernel_values(layer)
    return _other(layer) if values is None else _product([*_positions(layer, output), values])


def _kernel_values(layer: Any) -> int | None:
    """Products for each position of a convolution's output; None for other layers."""
    import keras

    kinds = keras.layers
    if isinstance(layer, (kinds.SeparableConv1D, kinds.SeparableConv2D)):
        return int(math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape))
    plain = (kinds.Conv1D, kinds.Conv2D, kinds.Conv3D, kinds.DepthwiseConv1D, kinds.DepthwiseConv2D)
    # a kernel holds channels / groups, so that groups need no rule of their own
    return math.prod(layer.kernel.shape) if isinstance(layer, plain) else None


def _other(layer: Any) -> int | None:
    name = type(layer).__name__
    if name in _NO_MULTIPLY_ADDS:
        return 0
    return None if getattr(layer, "weights", ()) or name in _PRODUCTS_WITHOUT_WEIGHTS else 0


def _positions(layer: Any, shape: Shape | None) -> Shape:
    """Spatial sides of a convolution's input or output."""
    if shape is None:
        return (None,)
    return shape[2:] if layer.data_format == "channels_first" else shape[1:-1]


def _einsum(layer: Any, given: Shape) -> int | None:
    """Every value of the input meets the kernel once for each index that only the kernel has."""
    first, second = layer.equation.replace("...", "").split("->")[0].split(",")
    own = [side for letter, side in zip(second, layer.kernel.shape, strict=True) if letter not in first]
    return _product([*given[1:], *own])


def _attention(layer: Any, inputs: Sequence[Shape]) -> int | None:
    """Projections of query, key, value and result, then scores and weighted sum: queries x keys x heads x (key + value size)."""
    shapes = [inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else inputs[1]]
    if len(inputs) > 3 or any(len(shape) != 3 for shape in shapes):
        return None
    query, value, key = (shape[1] for shape in shapes)
    sizes = [
        math.prod(dense.kernel.shape)
        for dense in (layer.query_dense, layer.value_dense, layer.key_dense, layer.output_dense)
    ]
    heads, key_size = layer.query_dense.kernel.shape[1:]
    value_size = layer.value_dense.kernel.shape[2]
    parts = [
        *(_product(pair) for pair in zip((query, value, key, query), sizes, strict=True)),
        _product([query, key, heads, key_size + value_size]),
    ]
    return None if None in parts else sum(part or 0 for part in parts)


def _product(sides: Sequence[int | None]) -> int | None:
    known = [side for side in sides if side is not None]
    return math.prod(known) if len(known) == len(sides) else None
