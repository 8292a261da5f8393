"""Exporter `onnx`: one .onnx file for ONNX Runtime and whatever else reads the format."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from finetunekit import Exported, Exporter, Options, Predict, Servable
from finetunekit_builtin.exporters.conversion import convert, need, texts_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "model.onnx"
NEEDS = ("tf2onnx", "onnx", "onnxruntime")


class OnnxOptions(Options):
    """Options of `onnx`."""

    input: Literal["pixels", "square"] = Field(
        "pixels",
        description="pixels: takes photos of any size and resizes them. square: takes photos of the network's size.",
    )
    opset: int = Field(18, ge=15, le=18, description="Version of ONNX's operator set.")


def build_onnx(options: OnnxOptions) -> Exporter:
    """One file, `model.onnx`; class names and what travels with the model lie in its `metadata_props`.

    Args:
        options: What the model takes.
    """
    return Exporter(partial(_write, options), _open, _classes, check=partial(need, NEEDS))


def _write(options: OnnxOptions, servable: Servable, folder: Path) -> Exported:
    import onnx

    from finetunekit import save_graph

    path = folder / FILE
    with tempfile.TemporaryDirectory() as name:
        graph, texts = Path(name) / "graph", Path(name) / "texts.json"
        save_graph(servable, graph, takes=options.input)
        texts.write_text(json.dumps(texts_of(servable)), encoding="utf-8")
        convert("convert_onnx", str(graph), str(path), str(options.opset), str(texts))
    operations = dict(Counter(node.op_type for node in onnx.load(str(path)).graph.node))
    return Exported((FILE,), options.input, "float32", operations, ("onnxruntime",))


def _session(path: Path) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    # threads that wait busily for others take twice the processor time where the machine has other work too
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(json.loads(_session(folder / FILE).get_modelmeta().custom_metadata_map["classes"]))


def _open(folder: Path) -> Predict:
    session = _session(folder / FILE)
    names = [output.name for output in session.get_outputs()]

    def predict(photos: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(names, session.run(names, {"pixels": photos}), strict=True))

    return predict
