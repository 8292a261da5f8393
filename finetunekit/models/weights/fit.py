"""Named arrays into a model: strict, all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from finetunekit.errors import WeightsError
from finetunekit.models.layer_names import is_lora
from finetunekit.models.weights.cache import ResolvedWeights, StoredArrays
from finetunekit.types import Arrays, BackboneSpec, PretrainedTop

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

SHOWN_PROBLEMS = 4


def fit_arrays(model: keras.Model, arrays: Arrays, *, origin: str, top: PretrainedTop | None = None) -> None:
    """Assign every weight of a backbone. Nothing is assigned unless everything fits; what LoRA adds keeps its initial values.

    Args:
        model: Backbone as its builder returned it.
        arrays: By `<layer path>/<variable name>`, such as `block1_conv1/kernel`; each of its variable's shape.
        origin: Where the arrays came from, for messages.
        top: `spec.top` of the backbone: arrays that it names are no weights of the backbone and are left alone.

    Raises:
        WeightsError: If a weight has no array, an array has no weight, or shapes differ; the first few are named.
    """
    variables = {
        name: variable
        for name, variable in named_variables(model, origin).items()
        if name in arrays or not is_lora(variable)
    }
    missing = [f"no array for {name}" for name in variables if name not in arrays]
    of_top = {top.kernel, top.bias} if top else set()
    unused = [f"no weight for array {name}" for name in arrays if name not in variables and name not in of_top]
    shapes = [
        f"{name} is {tuple(variable.shape)}, its array {shape}"
        for name, variable in variables.items()
        if name in arrays and tuple(variable.shape) != (shape := arrays[name].shape)
    ]
    if problems := [*shapes, *missing, *unused]:
        more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise WeightsError(
            f"{origin}: these arrays do not fit the backbone: {'; '.join(problems[:SHOWN_PROBLEMS])}{more}."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])


def load_top(found: ResolvedWeights, spec: BackboneSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The classification layer that a backbone was pretrained with.

    Args:
        found: The backbone's arrays, as `resolve_weights` returns them.
        spec: Its data; `spec.top` names the two arrays and says what they stand for.

    Returns:
        Kernel `(channels, classes)` and bias `(classes,)`, float32: pooled features @ kernel + bias are logits.

    Raises:
        WeightsError: If the backbone names no such layer, or these arrays (a user's own file) do not have it.
    """
    if spec.top is None:
        raise WeightsError(f"{spec.title}: its weights have no classification layer.")
    arrays = StoredArrays(found.path)
    kernel, bias = arrays.get(spec.top.kernel), arrays.get(spec.top.bias)
    names = f"{spec.top.kernel} and {spec.top.bias}"
    if kernel is None or bias is None:
        raise WeightsError(f"{found.path}: has no {names}, the classification layer of {spec.title}.")
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
        raise WeightsError(f"{found.path}: {names} do not belong together: {kernel.shape}, {bias.shape}.")
    return kernel, bias


def named_variables(model: keras.Model, origin: str) -> dict[str, keras.Variable]:
    """Weights of a model by `<layer path>/<variable name>`, in the order of its layers."""
    named: dict[str, Any] = {}
    for path, variable in _walk(model, "", set()):
        name = f"{path}/{variable.name}"
        if name in named:
            raise WeightsError(
                f"{origin}: the backbone has two weights named {name}; its plugin must name its layers apart."
            )
        named[name] = variable
    return named


def _walk(owner: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Each weight once, under the innermost layer that holds it."""
    children = owner.layers if hasattr(owner, "layers") else owner._flatten_layers(include_self=False, recursive=False)
    for layer in children:
        path = f"{prefix}{layer.name}"
        yield from _walk(layer, f"{path}/", seen)
        for variable in layer.weights:
            if id(variable) not in seen:
                seen.add(id(variable))
                yield path, variable
