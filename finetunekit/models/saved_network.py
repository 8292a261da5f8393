"""A trained network as a file, and read back into one that was built again: every weight by name, and what the network answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import RunFolderError
from finetunekit.models.feature_cache import EXTRACTION_BATCH
from finetunekit.models.forward import Answers
from finetunekit.models.inference_graph import graph_answering, graph_arrays
from finetunekit.models.layer_names import weights_by_name
from finetunekit.models.preprocessing import as_input
from finetunekit.system.array_files import read_arrays, write_arrays
from finetunekit.system.files import replacing
from finetunekit.system.formatting import one_line
from finetunekit.types import PixelContract

if TYPE_CHECKING:
    import keras

_ANSWER, _WEIGHT, _HIDDEN = "answer", "weights/", "hidden/"
_TOLERANCES = {"float32": 1e-2, "bfloat16": 0.25}
"""Of the largest logit: what other processors and kernels change, and no other network keeps to."""
_SHOWN = 3


def save_network(path: Path, logits: keras.Model, contract: PixelContract, precision: str) -> None:
    """Write the weights of a network, and its logits for photos of noise.

    Args:
        path: File to write.
        logits: `(batch, size, size, 3)` → `(batch, classes)`.
        contract: What it is fed by.
        precision: `float32` or `bfloat16`, as it was built.

    Raises:
        RunFolderError: If the file cannot be written.
    """
    traced = _traced(logits)
    named = {f"{_WEIGHT}{name}": weight.value for name, weight in weights_by_name(logits).items()}
    named |= {f"{_HIDDEN}{i}": variable for i, variable in enumerate(_hidden(traced, logits))}
    about, graph = graph_arrays(logits, {id(v.handle): name for name, v in named.items()}, EXTRACTION_BATCH)
    arrays = {name: variable.numpy() for name, variable in named.items()} | graph
    first, second = _answer(traced, contract), _answer(traced, contract)
    if _is_same(first, second, precision):  # else it draws lots, and nothing can be compared
        arrays[_ANSWER] = first
    with replacing(path) as partial:
        write_arrays(partial, {"precision": precision, **about}, arrays)


def read_network(path: Path) -> Callable[..., Answers] | None:
    """The answering pass of a file that `save_network` wrote, as `finetunekit.models.forward.make_answering` makes it of the network.

    Returns:
        None where the network has to be built for it: see `finetunekit.models.inference_graph`.

    Raises:
        RunFolderError: If the file is damaged.
    """
    try:
        return graph_answering(*read_arrays(path))
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise RunFolderError(f"{path}: cannot be read ({one_line(exc)}).") from exc


def load_network(path: Path, logits: keras.Model, contract: PixelContract, precision: str) -> None:
    """Put the weights of a file into a network that was built by the same plugins, and ask it what was asked when it was saved.

    Weights are matched by name; where a plugin names its layers differently each time, by their order.

    Args:
        path: What `save_network` wrote.
        logits: As built now; its weights are replaced, all or none.
        contract: As when it was saved.
        precision: As it was built now. Answers of the other one are not compared.

    Raises:
        RunFolderError: If the file is damaged, or the network is another one.
    """
    try:
        about, arrays = read_arrays(path)
    except (OSError, ValueError) as exc:
        raise RunFolderError(f"{path}: cannot be read ({one_line(exc)}).") from exc
    saved = {name.removeprefix(_WEIGHT): array for name, array in arrays.items() if name.startswith(_WEIGHT)}
    weights = weights_by_name(logits)
    order = list(weights) if weights.keys() == saved.keys() else list(saved)
    differing = _differing(weights, saved, order)
    if differing:
        more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise RunFolderError(f"{path}: is of another network: {'; '.join(differing[:_SHOWN])}{more}.")
    for weight, name in zip(weights.values(), order, strict=True):
        weight.assign(saved[name])
    traced = _traced(logits)
    hidden, known = _hidden(traced, logits), [array for name, array in arrays.items() if name.startswith(_HIDDEN)]
    if [tuple(variable.shape) for variable in hidden] != [array.shape for array in known]:
        raise RunFolderError(f"{path}: is of another network: variables that no layer lists as its weights differ.")
    for variable, array in zip(hidden, known, strict=True):
        variable.assign(array)
    if _ANSWER in arrays and about.get("precision") == precision:
        _check_answer(path, _answer(traced, contract), arrays[_ANSWER], precision)


def _differing(weights: dict[str, Any], saved: dict[str, NDArray[Any]], order: list[str]) -> list[str]:
    """What keeps weights from taking their arrays, one text each."""
    shapes = [(tuple(weight.shape), str(weight.dtype)) for weight in weights.values()]
    arrays = [(saved[name].shape, saved[name].dtype.name) for name in order]
    if weights.keys() == saved.keys() or len(shapes) == len(arrays):
        pairs = zip(weights, shapes, arrays, strict=True)
        return [f"{name} is {_show(now)}, and was {_show(was)}" for name, now, was in pairs if now != was]
    new = [f"{name} is new" for name in weights if name not in saved]
    return [*new, *(f"{name} is gone" for name in saved if name not in weights)]


def _show(kind: tuple[tuple[int, ...], str]) -> str:
    return f"{kind[0]} {kind[1]}"


def _traced(logits: keras.Model) -> Any:
    """A network at inference as a function of two photos."""
    import tensorflow as tf

    spec = tf.TensorSpec((2, *logits.inputs[0].shape[1:]), tf.float32)
    return tf.function(lambda x: logits(x, training=False)).get_concrete_function(spec)


def _hidden(traced: Any, logits: keras.Model) -> list[Any]:
    """Variables that a network reads and Keras does not know of, in the order in which it reads them.

    A layer may keep them where Keras does not look, such as a list within a tuple. They take no part in training, but may be changed by it.
    """
    known = {id(variable.value) for variable in logits.variables}
    read = {id(handle): position for position, (handle, _) in enumerate(traced.graph.captures)}
    hidden = [variable for variable in traced.graph.variables if id(variable) not in known]
    return sorted(hidden, key=lambda variable: read[id(variable.handle)])


def _answer(traced: Any, contract: PixelContract) -> NDArray[np.float32]:
    """Logits for two photos of noise, `(2, classes)`: the same photos each time."""
    import tensorflow as tf

    size_px = traced.inputs[0].shape[1]
    photos = np.random.default_rng(0).integers(0, 256, (2, size_px, size_px, 3)).astype(np.uint8)
    return np.asarray(traced(tf.constant(as_input(photos, contract))), np.float32)


def _is_same(first: NDArray[np.float32], second: NDArray[np.float32], precision: str) -> bool:
    limit = _TOLERANCES[precision] * max(float(np.abs(first).max()), 1e-3)
    return bool(np.isfinite(first).all() and np.abs(first - second).max() <= limit)


def _check_answer(path: Path, now: NDArray[np.float32], then: NDArray[np.float32], precision: str) -> None:
    if now.shape == then.shape and _is_same(then, now, precision):
        return
    shown = " and ".join(str(np.round(logits[0][:3], 3).tolist()) for logits in (now, then))
    raise RunFolderError(
        f"{path}: its weights fit the network that its plugins build now, but that answers otherwise than the one that was trained "
        f"(logits {shown}). Install the plugins that it was trained with."
    )
