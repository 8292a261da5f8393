"""Layer names that do not depend on what a process built before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

#: A name that Keras gives when it is given none: the class in snake case, and a number that counts on through the process.
_COUNTED = re.compile(r"(?P<stem>.*?)(?:_(?P<number>\d+))?")


def count_names_anew(model: keras.Model) -> None:
    """Number unnamed operations of a model from the first again: `conv2d`, `conv2d_1`, … in the order in which they were made.

    Weights and freezing go by layer names, so a backbone must name its layers the same however often it is built. Names that Keras did not
    count stay.

    Args:
        model: Just built; layers inside layers are named anew too.
    """
    counted: dict[str, list[tuple[int, Any]]] = {}
    for operation in {id(operation): operation for operation in _operations(model)}.values():
        match = _COUNTED.fullmatch(operation.name)
        if match and match["stem"] == _snake_case(type(operation).__name__):
            counted.setdefault(match["stem"], []).append((int(match["number"] or 0), operation))
    for stem, made in counted.items():
        for number, (_, operation) in enumerate(sorted(made, key=lambda pair: pair[0])):
            operation.name = f"{stem}_{number}" if number else stem


def _operations(owner: Any) -> Iterator[Any]:
    """Operations of the graph, and layers inside layers, whatever attribute holds them."""
    yield from getattr(owner, "operations", ())
    yield from owner._flatten_layers(include_self=False)


def _snake_case(name: str) -> str:
    """Source: keras/src/utils/naming.py, `to_snake_case`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
