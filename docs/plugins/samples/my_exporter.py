"""Exporter `one_file`: TensorFlow's model and its labels in one zip file, to be sent to somebody."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from finetunekit import Exported, Exporter, Options, Predict, Servable, hookimpl, save_graph
from finetunekit.hookspecs import Register

FILE, LABELS = "model.zip", "labels.json"


class OneFileOptions(Options):
    """Options of `one_file`."""

    is_packed: bool = Field(False, description="Compress the file.")


def build_one_file(options: OneFileOptions) -> Exporter:
    """Nothing is imported or written yet; a missing package should be reported here.

    Args:
        options: Whether to compress.
    """

    def write(servable: Servable, folder: Path) -> Exported:
        with tempfile.TemporaryDirectory() as name:
            save_graph(servable, Path(name) / "graph")  # photos of any size in, probabilities out
            _pack(Path(name), folder / FILE, servable.classes, zipfile.ZIP_DEFLATED if options.is_packed else 0)
        return Exported((FILE,), "pixels", "float32", operations={}, requires=("tensorflow",))

    return Exporter(write, _open, _read_classes)


def _pack(folder: Path, target: Path, classes: tuple[str, ...], compression: int) -> None:
    with zipfile.ZipFile(target, "w", compression) as archive:
        archive.writestr(LABELS, json.dumps(classes))
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))


def _read_classes(folder: Path) -> tuple[str, ...]:
    with zipfile.ZipFile(folder / FILE) as archive:
        return tuple(json.loads(archive.read(LABELS)))


def _open(folder: Path) -> Predict:
    """The engine measures what this returns against the run's own network."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as name:
        zipfile.ZipFile(folder / FILE).extractall(name)
        model = tf.saved_model.load(str(Path(name) / "graph"))

    def predict(photos: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        answers = model.signatures["serving_default"](pixels=tf.constant(photos))
        return {name: values.numpy() for name, values in answers.items()}

    return predict


@hookimpl
def register_exporters(register: Register) -> None:
    """One exporter."""
    register("one_file", build_one_file, OneFileOptions)
