"""Arrays of a PyTorch port of EfficientNet-Lite by the names of the Keras model, its 1000-way top included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit import WeightsError
from finetunekit_efficientnet_lite.network import Variant, bottlenecks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOP_KERNEL, TOP_BIAS = "imagenet_top/kernel", "imagenet_top/bias"
CONV = (2, 3, 1, 0)  # (out, in, height, width) → (height, width, in, out)
DEPTHWISE = (2, 3, 0, 1)  # (channels, 1, height, width) → (height, width, channels, 1)
DENSE = (1, 0)  # (classes, channels) → (channels, classes)
VECTOR = (0,)
_BN = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def convert_torch(variant: Variant, path: Path) -> dict[str, NDArray[np.float32]]:
    """Arrays of a legacy PyTorch file of `efficientnet_lite_pytorch`.

    Args:
        variant: Which one the file should hold.
        path: The file.

    Returns:
        Arrays by `<layer>/<variable>`: kernels `(height, width, in, out)`, depthwise `(height, width, channels, 1)`; and the top,
        `imagenet_top/kernel` `(1280, 1000)` and `imagenet_top/bias` `(1000,)`. All float32.

    Raises:
        WeightsError: If the file cannot be read, holds a tensor too many or too few, or one with a wrong number of axes.
    """
    from finetunekit_efficientnet_lite.torch_file import read_float_tensors

    stored = read_float_tensors(path)
    wanted = {name: (source, axes) for name, source, axes in _names(variant)}
    sources = {source for source, _ in wanted.values()}
    if surplus := sorted(stored.keys() - sources):
        raise WeightsError(f"not {variant.name}: it also has '{surplus[0]}'.")
    return {name: _take(stored, source, axes, variant) for name, (source, axes) in wanted.items()}


def _take(
    stored: Mapping[str, NDArray[np.float32]], name: str, axes: tuple[int, ...], variant: Variant
) -> NDArray[np.float32]:
    import numpy as np

    if name not in stored:
        raise WeightsError(f"not {variant.name}: it has no '{name}'.")
    if stored[name].ndim != len(axes):
        raise WeightsError(f"not {variant.name}: '{name}' has shape {stored[name].shape}, {len(axes)} axes are needed.")
    return np.ascontiguousarray(stored[name].transpose(axes))


def _names(variant: Variant) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name here, name there, and the order of axes, for every array."""
    yield from _pair("stem", "_conv_stem", "_bn0", CONV)
    for number, part in enumerate(bottlenecks(variant)):
        there = f"_blocks.{number}"
        if part.expansion != 1:
            yield from _pair(f"{part.name}_expand", f"{there}._expand_conv", f"{there}._bn0", CONV)
        yield from _pair(f"{part.name}_depthwise", f"{there}._depthwise_conv", f"{there}._bn1", DEPTHWISE)
        yield from _pair(f"{part.name}_project", f"{there}._project_conv", f"{there}._bn2", CONV)
    yield from _pair("top", "_conv_head", "_bn1", CONV)
    yield TOP_KERNEL, "_fc.weight", DENSE
    yield TOP_BIAS, "_fc.bias", VECTOR


def _pair(here: str, conv: str, bn: str, axes: tuple[int, ...]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """A convolution and its normalisation."""
    yield f"{here}_conv/kernel", f"{conv}.weight", axes
    for variable, there in _BN.items():
        yield f"{here}_bn/{variable}", f"{bn}.{there}", VECTOR
