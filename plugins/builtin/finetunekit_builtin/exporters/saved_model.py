"""Exporter `savedmodel`: a folder for TensorFlow and TensorFlow Serving, which takes encoded photos too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from finetunekit import Exported, Exporter, Options, Predict, Servable
from finetunekit_builtin.exporters.conversion import texts_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "saved_model"
TEXTS, LABELS = "assets.extra/finetunekit.json", "assets.extra/labels.txt"


class SavedModelOptions(Options):
    """Options of `savedmodel`."""

    input: Literal["pixels", "square"] = Field(
        "pixels",
        description="pixels: takes photos of any size and resizes them. square: takes photos of the network's size.",
    )


def build_saved_model(options: SavedModelOptions) -> Exporter:
    """A SavedModel with two signatures: `serving_default` takes pixels, `encoded` (with `input: pixels`) the bytes of a JPEG or PNG a row.

    Class names and what travels with the model lie in its `assets.extra`.

    Args:
        options: What the model takes.
    """
    decode = _decode if options.input == "pixels" else None
    return Exporter(partial(_write, options), _open, _classes, decode=decode)


def _write(options: SavedModelOptions, servable: Servable, folder: Path) -> Exported:
    import tensorflow as tf

    from finetunekit import save_graph

    path = folder / FOLDER
    save_graph(servable, path, takes=options.input, has_encoded=options.input == "pixels", is_inlined=False)
    (path / TEXTS).parent.mkdir()
    (path / TEXTS).write_text(json.dumps(texts_of(servable), ensure_ascii=False, indent=1), encoding="utf-8")
    (path / LABELS).write_text("".join(f"{' '.join(name.split())}\n" for name in servable.classes), encoding="utf-8")
    graph = tf.saved_model.load(str(path)).signatures["serving_default"].graph
    operations = Counter(operation.type for operation in graph.get_operations())
    return Exported((FOLDER,), options.input, "float32", dict(operations), ("tensorflow",))


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(json.loads(json.loads((folder / FOLDER / TEXTS).read_text(encoding="utf-8"))["classes"]))


def _open(folder: Path) -> Predict:
    import tensorflow as tf

    model = tf.saved_model.load(str(folder / FOLDER))

    def predict(photos: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        answers = model.signatures["serving_default"](
            pixels=tf.constant(photos)
        )  # through the model, which holds the variables
        return {name: values.numpy() for name, values in answers.items()}

    return predict


def _decode(folder: Path) -> Callable[[bytes], NDArray[np.uint8]]:
    import tensorflow as tf

    model = tf.saved_model.load(str(folder / FOLDER))

    def decode(content: bytes) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = model.signatures["decode"](encoded=tf.constant(content))["pixels"].numpy()
        return pixels

    return decode
