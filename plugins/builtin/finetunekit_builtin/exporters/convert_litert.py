"""SavedModel → .tflite, as a program of its own: `python -m … GRAPH OUT none|fp16|int8 [PHOTOS.npy]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def main(graph: str, out: str, quantize: str, photos: str | None = None) -> None:
    """Convert, and write the file.

    Args:
        graph: Folder of the SavedModel.
        out: File to write.
        quantize: `none`, `fp16` or `int8`.
        photos: Array `(photos, size, size, 3)` uint8 in a file, for int8.
    """
    import tensorflow as tf

    saved = tf.saved_model.load(graph)
    # `from_saved_model` leaves variables in the file that nobody gives a value: answers are then not a number
    converter = tf.lite.TFLiteConverter.from_concrete_functions([saved.signatures["serving_default"]], saved)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize == "fp16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        assert photos is not None  # the exporter gives them
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _examples(np.load(photos))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    Path(out).write_bytes(converter.convert())


def _examples(photos: Any) -> Iterator[dict[str, Any]]:
    """One photo at a time. Two pixels of the first are black and white, so that a step of the input is a grey level whatever the photos."""
    photos[0, 0, 0], photos[0, 0, 1] = 0, 255
    for photo in photos:
        yield {"pixels": photo[np.newaxis].astype(np.float32)}


if __name__ == "__main__":
    main(*sys.argv[1:])
