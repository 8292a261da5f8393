"""Copies of a model's weights, and how a checkpoint holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Arrays: TypeAlias = list[NDArray[Any]]


def copies(variables: Sequence[Any]) -> Arrays:
    """The values of variables as they are now."""
    return [np.array(variable.numpy()) for variable in variables]


def views(variables: Sequence[Any]) -> Arrays:
    """The values of variables without a copy where TensorFlow lends them; to be read before the next step changes them."""
    return [_view(variable) for variable in variables]


def _view(variable: Any) -> NDArray[Any]:
    try:
        return np.asarray(memoryview(variable.value.read_value()))
    except (AttributeError, BufferError, TypeError, ValueError):
        # a device's memory, or a type that Python's buffers do not know, such as bfloat16
        return np.asarray(variable.numpy())


def assign(variables: Sequence[Any], arrays: Sequence[NDArray[Any]]) -> None:
    """Put values into variables, in order."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def numbered(name: str, arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays by the names `NAME_0`, `NAME_1` …, in order."""
    return {f"{name}_{i}": array for i, array in enumerate(arrays)}


def arrays_of(state: Mapping[str, NDArray[Any]], name: str) -> Arrays:
    """What `numbered` named, back in order."""
    count = sum(key.startswith(f"{name}_") for key in state)
    return [state[f"{name}_{i}"] for i in range(count)]
