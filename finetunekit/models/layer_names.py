"""Layer names that do not depend on what a process built before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

#: A name that Keras gives when it is given none: the class in snake case, and a number that counts on through the process.
_COUNTED = re.compile(r"(?P<stem>.*?)(?:_(?P<number>\d+))?")

_MEMBER = re.compile(r"member\d+_")
_UNNAMED = re.compile(r"variable_\d+$")


def member_prefix(number: int) -> str:
    """What the names of the layers of a member of an ensemble begin with, counted from 1."""
    return f"member{number}_"


def member_of(name: str) -> str:
    """The prefix of the member that a layer belongs to; empty where it belongs to none."""
    found = _MEMBER.match(name)
    return found.group() if found else ""


def is_lora(variable: keras.Variable) -> bool:
    """Whether Keras' `enable_lora` added a weight to a layer: it has no pretrained array, and trains in place of what it was added to."""
    return str(variable.name).startswith("lora_")


def count_names_anew(model: keras.Model) -> None:
    """Number unnamed operations of a model from the first again: `conv2d`, `conv2d_1`, … in the order in which they were made.

    Weights and freezing go by layer names, so a backbone must name its layers the same however often it is built. Names that Keras did not
    count stay.

    Args:
        model: Just built; layers inside layers are named anew too.
    """
    for operation, name in _counted_names(model):
        operation.name = name


def weights_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """Every weight of a network by a name that is the same in any process that builds the network by the same code.

    Args:
        model: Left as it is.

    Returns:
        `<layer path>/<variable name>` → weight, in the order of the layers. Names that Keras counted are counted anew; a weight whose
        name is taken already has an apostrophe more.
    """
    names = {id(operation): name for operation, name in _counted_names(model)}
    found: dict[str, Any] = {}
    for path, variable in _weights(model, "", names, set()):
        name = f"{path}/{_UNNAMED.sub('variable', variable.name)}"
        while name in found:
            name += "'"
        found[name] = variable
    return found


def _weights(owner: Any, prefix: str, names: Mapping[int, str], seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Each weight once, under the innermost layer that holds it."""
    layers = owner.layers if hasattr(owner, "layers") else owner._flatten_layers(include_self=False, recursive=False)
    for layer in layers:
        path = f"{prefix}{names.get(id(layer), layer.name)}"
        yield from _weights(layer, f"{path}/", names, seen)
        for variable in layer.weights:
            if id(variable) not in seen:
                seen.add(id(variable))
                yield path, variable


def _counted_names(model: keras.Model) -> Iterator[tuple[Any, str]]:
    """Operations whose names Keras counted, and the names that they have where counting begins with this model."""
    counted: dict[str, list[tuple[int, Any]]] = {}
    for operation in {id(operation): operation for operation in _operations(model)}.values():
        match = _COUNTED.fullmatch(operation.name)
        if match and match["stem"] == _snake_case(type(operation).__name__):
            counted.setdefault(match["stem"], []).append((int(match["number"] or 0), operation))
    for stem, made in counted.items():
        for number, (_, operation) in enumerate(sorted(made, key=lambda pair: pair[0])):
            yield operation, f"{stem}_{number}" if number else stem


def _operations(owner: Any) -> Iterator[Any]:
    """Operations of the graph, and layers inside layers, whatever attribute holds them."""
    yield from getattr(owner, "operations", ())
    yield from owner._flatten_layers(include_self=False)


def _snake_case(name: str) -> str:
    """Source: keras/src/utils/naming.py, `to_snake_case`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
