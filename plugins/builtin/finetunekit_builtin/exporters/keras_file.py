"""Exporter `keras`: one .keras file of Keras' own layers, from squares to probabilities, and a JSON file that says how to make the squares.

Pillow's resize cannot be written in Keras' own layers, and a layer of ours would not load without finetunekit: it stays outside.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit import Exported, Exporter, ExportError, Options, PixelContract, Predict, Servable
from finetunekit_builtin.exporters.conversion import texts_of

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray

FILE, CONTRACT = "model.keras", "contract.json"


class KerasOptions(Options):
    """The exporter `keras` has no options."""


def build_keras(options: KerasOptions) -> Exporter:
    """Two files: `model.keras`, which plain Keras loads in safe mode, and `contract.json`: class names, and how a photo becomes a square.

    The model takes `pixels` `(batch, size, size, 3)` uint8; pixel contract, mirror image, temperature and softmax are inside.

    Args:
        options: None.
    """
    return Exporter(_write, _open, _classes)


def _write(servable: Servable, folder: Path) -> Exported:
    import keras

    strange = sorted(set(_not_of_keras(keras.saving.serialize_keras_object(servable.network))))
    if strange:
        raise ExportError(
            f"keras: {', '.join(strange)}: not of Keras itself; such a file does not load elsewhere. Export to onnx, litert or savedmodel, "
            "which write what a layer computes."
        )
    model = _served(servable)
    model.save(folder / FILE)
    contract = {
        **servable.fitting(),
        **texts_of(servable),
        "classes": servable.classes,
    }
    (folder / CONTRACT).write_text(json.dumps(contract, ensure_ascii=False, indent=1), encoding="utf-8")
    return Exported((FILE, CONTRACT), "square", "float32", Counter(_layer_types(model)), ("keras",))


def _not_of_keras(written: Any) -> Iterator[str]:
    """Names of what a serialised network holds that is not part of Keras, or runs code that the file brings (`Lambda`)."""
    if isinstance(written, list | tuple):
        for value in written:
            yield from _not_of_keras(value)
    if isinstance(written, Mapping):
        home, name = written.get("module"), written.get("class_name")
        if name == "Lambda" or (name and home and home.split(".")[0] not in ("keras", "builtins")):
            yield str(name)
        for value in written.values():
            yield from _not_of_keras(value)


def _served(servable: Servable) -> keras.Model:
    import keras

    side = servable.size_px
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    fed = _standardised(keras.ops.cast(pixels, "float32"), servable.pixels)
    logits = servable.network(fed, training=False)
    averaged = logits
    if servable.is_mirrored:
        averaged = _log_mean(logits, servable.network(keras.ops.flip(fed, axis=2), training=False))
    probabilities = keras.ops.softmax(averaged * (1.0 / servable.temperature))
    points = {"input": fed, "logits": logits} if servable.has_points else {}
    return keras.Model({"pixels": pixels}, {**points, "probabilities": probabilities}, name="served")


def _log_mean(logits: Any, mirrored: Any) -> Any:
    """Logits of the mean of two softmaxes, `(batch, classes)`."""
    import keras

    return keras.ops.logaddexp(keras.ops.log_softmax(logits), keras.ops.log_softmax(mirrored))


def _standardised(square: Any, contract: PixelContract) -> Any:
    """As `finetunekit` feeds its networks: `(order(square) * scale - mean) / std`, steps that change nothing left out."""
    import keras

    if contract.order == "bgr":
        square = keras.ops.flip(square, axis=-1)
    if contract.scale != 1:
        square = square * contract.scale
    if any(contract.mean):
        square = square - keras.ops.convert_to_tensor(contract.mean, "float32")
    if any(value != 1 for value in contract.std):
        square = square / keras.ops.convert_to_tensor(contract.std, "float32")
    return square


def _layer_types(model: Any) -> Iterator[str]:
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _layer_types(layer)
        else:
            yield type(layer).__name__


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(json.loads((folder / CONTRACT).read_text(encoding="utf-8"))["classes"])


def _open(folder: Path) -> Predict:
    import keras

    model = keras.models.load_model(folder / FILE, compile=False, safe_mode=True)

    def predict(photos: NDArray[np.uint8]) -> Mapping[str, NDArray[np.float32]]:
        return {
            name: keras.ops.convert_to_numpy(values)
            for name, values in model({"pixels": photos}, training=False).items()
        }

    return predict
