"""SavedModel → .tflite, as a program of its own: `python -m … GRAPH OUT none|fp16|int8|mixed [PHOTOS.npy]`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: Of the layers, in mixed precision, that stay in float32.
KEPT_SHARE = 0.1
MEASURED_PHOTOS = 16


def main(graph: str, out: str, quantize: str, photos: str | None = None) -> None:
    """Convert, and write the file.

    Args:
        graph: Folder of the SavedModel.
        out: File to write; for `mixed` the names of the layers that stay in float32 go beside it, as JSON.
        quantize: `none`, `fp16`, `int8` or `mixed`: 8 bits, but for the layers that 8 bits change most.
        photos: Array `(photos, size, size, 3)` uint8 in a file, for the last two.
    """
    import tensorflow as tf

    saved = tf.saved_model.load(graph)
    # `from_saved_model` leaves variables in the file that nobody gives a value: answers are then not a number
    converter = tf.lite.TFLiteConverter.from_concrete_functions([saved.signatures["serving_default"]], saved)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        assert photos is not None  # the exporter gives them
        examples = _examples(photos)
        converter.representative_dataset = lambda: ({"pixels": one.astype(np.float32)} for one in examples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    if quantize == "mixed":
        assert photos is not None
        content, kept = _mixed(converter, _examples(photos))
        Path(out).with_suffix(".json").write_text(json.dumps(kept), encoding="utf-8")
        Path(out).write_bytes(content)
        return
    Path(out).write_bytes(converter.convert())


def _mixed(converter: Any, examples: Sequence[Any]) -> tuple[bytes, list[str]]:
    """8 bits where they change little: the `KEPT_SHARE` of layers whose values they move most stay in float32.

    Each layer is measured by itself, on the values that float32 gives it: the root mean square of what 8 bits change, in steps of 8 bits.

    Source: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_debugger (RMSE / scale).
    """
    import tensorflow as tf

    lite = tf.lite.experimental
    converter.representative_dataset = lambda: ([one] for one in examples)
    debugger = lite.QuantizationDebugger(
        converter=converter, debug_dataset=lambda: ([one] for one in examples[:MEASURED_PHOTOS])
    )
    debugger.run()
    errors = {}
    for name, statistics in debugger.layer_statistics.items():
        narrow, wide = (_tensor(debugger, place) for place in debugger._numeric_verify_op_details[name]["inputs"])
        step = narrow["quantization_parameters"]["scales"][0]
        errors[wide["name"]] = float(statistics["mean_squared_error"]) ** 0.5 / step
    kept = sorted(errors, key=errors.__getitem__, reverse=True)[: math.ceil(KEPT_SHARE * len(errors))]
    debugger.options = lite.QuantizationDebugOptions(denylisted_nodes=kept)
    return debugger.get_nondebug_quantized_model(), kept


def _tensor(debugger: Any, place: int) -> Any:
    return debugger._quant_interpreter._get_tensor_details(place, subgraph_index=0)


def _examples(file: str) -> Sequence[Any]:
    """Batches of one photo. Two pixels of the first are black and white, so that a step of the input is a grey level in any case."""
    photos = np.load(file)
    photos[0, 0, 0], photos[0, 0, 1] = 0, 255
    return [photo[np.newaxis] for photo in photos]


if __name__ == "__main__":
    main(*sys.argv[1:])
