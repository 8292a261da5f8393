"""Exporter `my_component`: a folder that TensorFlow runs, and a text file with the class names."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from finetunekit import Exported, Exporter, Options, Predict, Servable, hookimpl, save_graph
from finetunekit.hookspecs import Register

MODEL, NAMES = "model", "classes.json"


class MyComponentOptions(Options):
    """Options of `my_component`."""

    input: Literal["pixels", "square"] = Field(
        "pixels", description="pixels: takes photos of any size and resizes them. square: takes the network's size."
    )


def build_my_component(options: MyComponentOptions) -> Exporter:
    """Three functions: one writes, one runs what was written, one reads the class names back.

    Args:
        options: What the model takes.

    Raises:
        ConfigError: Raise it here if a package that you need is not installed; say how to install it.
    """
    return Exporter(partial(_write, options), _open, _read_classes)


def _write(options: MyComponentOptions, servable: Servable, folder: Path) -> Exported:
    """Write the files. Most converters start from the SavedModel of `save_graph`; run yours in a separate process."""
    save_graph(servable, folder / MODEL, takes=options.input)
    (folder / NAMES).write_text(json.dumps(servable.classes), encoding="utf-8")
    return Exported((MODEL, NAMES), options.input, "float32", operations={}, requires=("tensorflow",))


def _read_classes(folder: Path) -> tuple[str, ...]:
    return tuple(json.loads((folder / NAMES).read_text(encoding="utf-8")))


def _open(folder: Path) -> Predict:
    """Open the model in the runtime that it is meant for. What is returned holds `model`, and with it the variables."""
    import tensorflow as tf

    model = tf.saved_model.load(str(folder / MODEL))

    def predict(photos: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        answers = model.signatures["serving_default"](pixels=tf.constant(photos))
        return {name: values.numpy() for name, values in answers.items()}

    return predict


@hookimpl
def register_exporters(register: Register) -> None:
    """One exporter."""
    register("my_component", build_my_component, MyComponentOptions)
