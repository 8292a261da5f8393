"""One generic builder for every image classifier of `keras.applications`, and the reader of their published files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit import Backbone, Options, PluginError, WeightsError, count_names_anew
from finetunekit_keras_applications.families import Family

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Network:
    """One function of `keras.applications`; `name` is the function's in lower case."""

    function: str
    family: Family
    native_size_px: int

    @property
    def name(self) -> str:
        """Name in YAML."""
        return self.function.lower()


class KerasApplicationOptions(Options):
    """Networks of `keras.applications` have no options here: they are built as they were pretrained."""


def build_application(network: Network, image_size_px: int) -> Backbone:
    """Build one network without its classification top, with Keras' initial weights.

    Rescaling that Keras would build into it is left out: its pixel contract says what it was, and the engine applies it.

    Args:
        network: Which one.
        image_size_px: Side of the square input.

    Returns:
        Model `(batch, image_size_px, image_size_px, 3)` → map `(batch, side, side, channels)`, and its blocks in the order of their first
        layers. Layer names are the same however often it is built: those of a fresh process.

    Raises:
        PluginError: If `image_size_px` is below what Keras builds.
    """
    import keras

    smallest_px = network.family.min_size_px
    if image_size_px < smallest_px:
        raise PluginError(f"{network.name}: pixels.size_px is {image_size_px}; at least {smallest_px} is needed.")
    model = keras_model(network, image_size_px)
    if network.family.rescaling == "strip":
        model = _without_rescaling(model, image_size_px)
    count_names_anew(model)
    # some of Keras' functions make a model of a list of one input, which then warns of a photo batch that is not a list
    model = keras.Model(model.inputs[0], model.output, name=network.name)
    return Backbone(model=model, kind="map", blocks=blocks_of(network.family, _leaf_paths(model, "")))


def keras_model(network: Network, size_px: int) -> keras.Model:
    """What Keras builds, without top and weights; its own rescaling is there only where Keras has no switch for it."""
    import keras

    shape = (size_px, size_px, 3)
    switch: dict[str, Any] = {"include_preprocessing": False} if network.family.rescaling == "switch" else {}
    build = getattr(keras.applications, network.function)
    # an input of our own: Keras would number its name with every build
    return build(
        include_top=False, weights=None, input_tensor=keras.Input(shape, name="input"), input_shape=shape, **switch
    )


def _without_rescaling(model: keras.Model, size_px: int) -> keras.Model:
    """The graph behind its normalisation, on layers of its own: a layer used in two graphs has two outputs."""
    import keras

    normalised = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)).output
    rest = keras.Model(normalised, model.output)
    return keras.models.clone_model(rest, input_tensors=keras.Input((size_px, size_px, 3), name="input"))


def _leaf_paths(owner: Any, prefix: str) -> Iterator[str]:
    for layer in owner.layers:
        if hasattr(layer, "layers"):
            yield from _leaf_paths(layer, f"{prefix}{layer.name}/")
        else:
            yield f"{prefix}{layer.name}"


def blocks_of(family: Family, paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Block → layer paths, in the order of the blocks' first layers; the input belongs to none."""
    blocks: dict[str, list[str]] = {}
    current, waiting = "stem", list[str]()
    for path in (path for path in paths if path != "input"):
        if family.block:
            match = re.search(family.block, path)
            current = _block_name(match) if match else current
            blocks.setdefault(current, []).append(path)
        else:
            waiting.append(path)
            if re.search(family.block_end, path):
                blocks[path if blocks else "stem"], waiting = waiting, []
    return {name: tuple(members) for name, members in blocks.items()}


def _block_name(match: re.Match[str]) -> str:
    """The group that matched; a bare number is a block's."""
    name = next(group for group in match.groups() if group)
    return f"block{name}" if name.isdigit() else name


def convert_h5(network: Network, path: Path) -> dict[str, NDArray[np.float32]]:
    """Arrays of the file that Keras publishes for a network without top.

    Args:
        network: Which one the file is for.
        path: Legacy HDF5 file of weights, as Keras publishes them.

    Returns:
        Arrays by `<layer path>/<variable name>`, float32.

    Raises:
        WeightsError: If it does not fit the network, or its normalisation is not that of the pixel contract.
    """
    import numpy as np

    from finetunekit import named_variables  # brings numpy: not for a listing

    model = keras_model(network, max(network.family.min_size_px, 64))
    try:
        model.load_weights(path)
    except ValueError as exc:
        raise WeightsError(f"not a file of {network.function}: {' '.join(str(exc).split())[:150]}") from exc
    count_names_anew(model)
    arrays = {name: np.array(variable, np.float32) for name, variable in named_variables(model, path.name).items()}
    if network.family.rescaling == "strip":
        _check_normalisation(network, arrays)
        arrays = {name: array for name, array in arrays.items() if not name.startswith("normalization/")}
    return arrays


def _check_normalisation(network: Network, arrays: dict[str, NDArray[np.float32]]) -> None:
    """The file's variance is the standard deviation: Keras divides by its root, and once more after it.

    Source: the comment in keras/src/applications/efficientnet.py below `Normalization`.
    """
    import numpy as np

    pixels = network.family.pixels
    mean, variance = (arrays[f"normalization/{part}"].reshape(-1) for part in ("mean", "variance"))
    if not (np.allclose(mean, pixels.mean, atol=1e-3) and np.allclose(variance, pixels.std, atol=1e-3)):
        raise WeightsError(
            f"{network.function}: the file normalises by {mean} and {variance}, not by ImageNet's mean and deviation."
        )
