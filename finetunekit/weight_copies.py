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
