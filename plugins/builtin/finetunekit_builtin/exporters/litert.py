"""Exporter `litert`: one .tflite file for LiteRT (TensorFlow Lite), with built-in operations only."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from finetunekit import Exported, Exporter, ExportError, Options, Predict, Servable, available_cpus
from finetunekit_builtin.exporters.conversion import convert, need
from finetunekit_builtin.exporters.litert_metadata import read_labels, with_metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "model.tflite"
MORE_PHOTOS = 4
"""Times as many calibration photos, where those that were asked for do not keep the margin."""
NEEDS = ("ai_edge_litert", "flatbuffers")
PRECISIONS: Mapping[str, Literal["float32", "float16", "int8"]] = {"none": "float32", "fp16": "float16", "int8": "int8"}


class LitertOptions(Options):
    """Options of `litert`."""

    quantize: Literal["none", "fp16", "int8"] = Field(
        "none",
        description="none: float32. fp16: 16-bit weights. int8: 8-bit weights and activations, calibrated on training photos.",
    )
    input: Literal["auto", "pixels", "square"] = Field(
        "auto",
        description="pixels: takes photos of any size and resizes them. square: takes its own size. auto: square for int8, else pixels.",
    )
    calibration_photos: int = Field(
        128, ge=1, le=10_000, description="Number of training photos, evenly from all classes, that calibrate int8."
    )

    @model_validator(mode="after")
    def _check_input(self) -> Self:
        if self.quantize == "int8" and self.input == "pixels":
            raise ValueError("int8 takes input: square, resizing is done before it")
        return self


def build_litert(options: LitertOptions) -> Exporter:
    """One file, `model.tflite`, with its labels inside.

    It gives `probabilities` `(batch, classes)` float32, or for int8 uint8, of which 256 are 1. Where int8 does not keep its margin it is
    calibrated on more photos, and then the layers that 8 bits change most keep float32; such a model takes uint8 and gives float32.

    Args:
        options: Precision, and what the model takes.
    """
    more = options.model_copy(update={"calibration_photos": MORE_PHOTOS * options.calibration_photos})
    again = (partial(_write, more), partial(_write, more, is_mixed=True)) if options.quantize == "int8" else ()
    check = partial(need, NEEDS)
    return Exporter(partial(_write, options), _open, lambda folder: read_labels(folder / FILE), again, check=check)


def _write(options: LitertOptions, servable: Servable, folder: Path, *, is_mixed: bool = False) -> Exported:
    import numpy as np

    from finetunekit import save_graph

    is_int8 = options.quantize == "int8"
    takes: Literal["pixels", "square"] = "square" if is_int8 or options.input == "square" else "pixels"
    path, notes = folder / FILE, []
    with tempfile.TemporaryDirectory() as name:
        graph, photos, out = Path(name) / "graph", Path(name) / "photos.npy", Path(name) / FILE
        save_graph(servable, graph, takes=takes, is_float=is_int8 and not is_mixed)
        if is_int8:
            examples = servable.calibration(options.calibration_photos)
            np.save(photos, examples)
            notes.append(f"calibrated on {len(examples)} training photos")
        how = "mixed" if is_mixed else options.quantize
        convert("convert_litert", str(graph), str(out), how, *([str(photos)] if is_int8 else []))
        if is_mixed:
            kept = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
            notes.append(f"in float32, since 8 bits change them most: {', '.join(kept)}")
        path.write_bytes(with_metadata(out.read_bytes(), servable))
    operations = _operations(path)
    foreign = sorted(name for name in operations if name.startswith("Flex"))
    if foreign:
        raise ExportError(f"litert: the network needs operations of TensorFlow's own: {', '.join(foreign)}.")
    return Exported((FILE,), takes, PRECISIONS[options.quantize], operations, ("ai-edge-litert",), tuple(notes))


def _interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path), num_threads=available_cpus())  # by itself it uses one


def _operations(path: Path) -> Mapping[str, int]:
    return dict(Counter(operation["op_name"] for operation in _interpreter(path)._get_ops_details()))


def _open(folder: Path) -> Predict:
    interpreter = _interpreter(folder / FILE)  # kept: the runner lives in it
    run = interpreter.get_signature_runner()
    outputs = run.get_output_details()

    def predict(photos: NDArray[np.uint8], _: Any = interpreter) -> dict[str, NDArray[np.float32]]:
        return {name: _as_float(values, outputs[name]) for name, values in run(pixels=photos).items()}

    return predict


def _as_float(values: NDArray[Any], output: Mapping[str, Any]) -> NDArray[np.float32]:
    import numpy as np

    scale, zero = output["quantization"]
    return ((values.astype(np.float32) - zero) * scale if scale else values).astype(np.float32)
