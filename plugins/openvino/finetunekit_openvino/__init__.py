"""Exporter `openvino`: a finished run for OpenVINO on Intel processors."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from finetunekit import ConfigError, Exported, Exporter, ExportError, Options, Predict, Servable, hookimpl
from finetunekit.hookspecs import Register

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE, WEIGHTS = "model.xml", "model.bin"


class OpenvinoOptions(Options):
    """Options of `openvino`."""

    quantize: Literal["none", "fp16"] = Field("none", description="none: float32. fp16: 16-bit weights.")
    input: Literal["pixels", "square"] = Field(
        "pixels",
        description="pixels: takes photos of any size and resizes them. square: takes photos of the network's size.",
    )


def build_openvino(options: OpenvinoOptions) -> Exporter:
    """Two files, `model.xml` and `model.bin`; class names and what travels with the model lie in `rt_info`, under `finetunekit`.

    Args:
        options: Precision, and what the model takes.

    Raises:
        ConfigError: If OpenVINO is not installed.
    """
    if importlib.util.find_spec("openvino") is None:
        raise ConfigError("openvino: not installed. Exporting to it needs: pip install finetunekit-openvino")
    return Exporter(partial(_write, options), _open, _classes)


def _write(options: OpenvinoOptions, servable: Servable, folder: Path) -> Exported:
    from finetunekit import save_graph

    with tempfile.TemporaryDirectory() as name:
        graph, texts = Path(name) / "graph", Path(name) / "texts.json"
        save_graph(servable, graph, takes=options.input)
        texts.write_text(json.dumps({**servable.metadata, "classes": json.dumps(servable.classes)}), encoding="utf-8")
        _convert(str(graph), str(folder / FILE), options.quantize, str(texts))
    operations = Counter(operation.get_type_name() for operation in _read(folder).get_ordered_ops())
    precision: Literal["float32", "float16"] = "float16" if options.quantize == "fp16" else "float32"
    return Exported((FILE, WEIGHTS), options.input, precision, dict(operations), ("openvino",))


def _convert(*arguments: str) -> None:
    """In a process of its own, which gives back its memory."""
    command = [sys.executable, str(Path(__file__).with_name("convert.py")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ExportError(f"the converter failed: {lines[-1][:300] if lines else f'exit {done.returncode}'}")


def _read(folder: Path) -> Any:
    import openvino

    return openvino.Core().read_model(folder / FILE)


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(json.loads(_read(folder).get_rt_info(["finetunekit", "classes"]).value))


def _open(folder: Path) -> Predict:
    import numpy as np
    import openvino

    run = openvino.Core().compile_model(_read(folder), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [output.get_any_name() for output in run.outputs]

    def predict(photos: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        answers = run([photos])
        return {name: np.array(answers[name]) for name in names}

    return predict


@hookimpl
def register_exporters(register: Register) -> None:
    """One exporter."""
    register("openvino", build_openvino, OpenvinoOptions)
