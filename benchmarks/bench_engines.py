"""VGG16's frozen part by other engines: photos a second and how far the features are off, beside TensorFlow, in turn within one run.

    pip install onnx onnxruntime openvino torch ai-edge-litert
    python benchmarks/bench_engines.py [--rounds 10]

A batch of 32 photos at 100 px up to `block4_pool`, each precision that an engine has, ReLU and bias included, from pixels in an array to
features in an array. Weights are drawn: speed does not hang on them; in int8, scales are those of 32 drawn photos. TensorFlow has no int8
convolution on processors: such engines are compared with its bfloat16. An engine that is not installed is left out and named.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from common import describe_machine, new_parser, show_spread
from conv_rates import BATCH_SIZE, PREFIX
from numpy.typing import NDArray

from finetunekit.models.classifier import precision_scope
from finetunekit.models.weights import fit_arrays
from finetunekit.system.environment import available_cpus, start_tensorflow

SIDE_PX = PREFIX[0].side_px
Arrays: TypeAlias = Mapping[str, NDArray[np.float32]]
Engine: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""`(photos, height, width, 3)` in; `(photos, 6, 6, 512)` out."""


def draw_arrays() -> dict[str, NDArray[np.float32]]:
    """Kernels `(3, 3, channels, filters)` and biases by layer, scaled so that activations stay near 1 (He et al. 2015)."""
    generator = np.random.default_rng(0)
    found: dict[str, NDArray[np.float32]] = {}
    for c in PREFIX:
        scale = np.sqrt(2 / (9 * c.channels))
        found[f"{c.name}/kernel"] = generator.normal(0, scale, (3, 3, c.channels, c.filters)).astype(np.float32)
        found[f"{c.name}/bias"] = generator.normal(0, 0.1, c.filters).astype(np.float32)
    return found


def draw_photos() -> NDArray[np.float32]:
    """`(photos, height, width, 3)` in [0, 1)."""
    return np.random.default_rng(1).random((BATCH_SIZE, SIDE_PX, SIDE_PX, 3), dtype=np.float32)


def _ends_block(number: int) -> bool:
    return number + 1 == len(PREFIX) or PREFIX[number + 1].side_px != PREFIX[number].side_px


def tensorflow_engine(arrays: Arrays, precision: str) -> Engine:
    """Keras' own VGG16, as finetunekit computes features."""
    import tensorflow as tf

    prefix = _keras_prefix(arrays, precision)
    call = tf.function(lambda x: tf.cast(prefix(x, training=False), tf.float32))

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        features: NDArray[np.float32] = call(x).numpy()
        return features

    return run


def _keras_prefix(arrays: Arrays, precision: str) -> Any:
    import keras

    with precision_scope(precision):
        whole = keras.applications.VGG16(include_top=False, weights=None, input_shape=(SIDE_PX, SIDE_PX, 3))
    prefix = keras.Model(whole.input, whole.get_layer("block4_pool").output)
    fit_arrays(prefix, arrays, origin="drawn")
    return prefix


def litert_engine(arrays: Arrays, precision: str) -> Engine:
    """LiteRT's kernels for processors, quantised by TensorFlow's converter."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    assert precision == "int8"
    converter = tf.lite.TFLiteConverter.from_keras_model(_keras_prefix(arrays, "float32"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([photo[np.newaxis]] for photo in draw_photos())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    with redirect_stdout(sys.stderr):
        content = converter.convert()
    interpreter = Interpreter(model_content=content, num_threads=available_cpus())
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(taken["index"], (BATCH_SIZE, SIDE_PX, SIDE_PX, 3))
    interpreter.allocate_tensors()

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        interpreter.set_tensor(taken["index"], x)
        interpreter.invoke()
        features: NDArray[np.float32] = interpreter.get_tensor(given["index"])
        return features

    return run


def torch_engine(arrays: Arrays, precision: str) -> Engine:
    """PyTorch, channels-last."""
    import torch
    from plain_torch import BLOCKS, FROZEN_BLOCKS, build_blocks, load_convolutions
    from torch import nn

    torch.set_num_threads(available_cpus())
    layers = list(build_blocks(BLOCKS[:FROZEN_BLOCKS], 3))
    load_convolutions(layers, arrays)
    dtype = getattr(torch, precision)
    network = nn.Sequential(*layers).eval().to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            inputs = torch.from_numpy(x).permute(0, 3, 1, 2).to(dtype)
            features: NDArray[np.float32] = network(inputs).float().permute(0, 2, 3, 1).contiguous().numpy()
        return features

    return run


def onnx_bytes(arrays: Arrays) -> bytes:
    """The same network as an ONNX model of a fixed batch, channels first as the format wants it."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, initial, name = [], [], "photos"
    for number, c in enumerate(PREFIX):
        kernel = np.ascontiguousarray(arrays[f"{c.name}/kernel"].transpose(3, 2, 0, 1))
        initial.append(numpy_helper.from_array(kernel, f"{c.name}/kernel"))
        initial.append(numpy_helper.from_array(arrays[f"{c.name}/bias"], f"{c.name}/bias"))
        parts = [name, f"{c.name}/kernel", f"{c.name}/bias"]
        nodes.append(helper.make_node("Conv", parts, [c.name], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [c.name], [f"{c.name}/relu"]))
        name = f"{c.name}/relu"
        if _ends_block(number):
            nodes.append(helper.make_node("MaxPool", [name], [f"{c.name}/pool"], kernel_shape=[2, 2], strides=[2, 2]))
            name = f"{c.name}/pool"
    side_px = PREFIX[-1].side_px // 2
    ends = [
        helper.make_tensor_value_info("photos", TensorProto.FLOAT, [BATCH_SIZE, 3, SIDE_PX, SIDE_PX]),
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH_SIZE, PREFIX[-1].filters, side_px, side_px]),
    ]
    graph = helper.make_graph(nodes, "prefix", ends[:1], ends[1:], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8  # what opset 17 came with; a newer one is refused by older engines
    content: bytes = model.SerializeToString()
    return content


def openvino_engine(arrays: Arrays, precision: str) -> Engine:
    """OpenVINO's processor plugin, one request at a time on all processors."""
    import openvino

    hints = {"float32": "f32", "bfloat16": "bf16"}
    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": hints[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": available_cpus(),
    }
    request = core.compile_model(core.read_model(onnx_bytes(arrays)), "CPU", options).create_infer_request()
    return _channels_first(lambda x: request.infer({0: x})[0])


def int8_bytes(arrays: Arrays) -> bytes:
    """The ONNX model with 8-bit convolutions, scales by channel for weights, by ONNX Runtime's quantizer."""
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [draw_photos().transpose(0, 3, 1, 2)]

        def get_next(self) -> dict[str, Any] | None:
            return {"photos": self.left.pop()} if self.left else None

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        model = onnx.load_from_string(onnx_bytes(arrays))
        quantization.quantize_static(model, path, Reader(), per_channel=True)
        return path.read_bytes()


def onnxruntime_engine(arrays: Arrays, precision: str) -> Engine:
    """ONNX Runtime's own processor kernels; it has none for bfloat16 convolutions."""
    import onnxruntime

    model = {"float32": onnx_bytes, "int8": int8_bytes}[precision](arrays)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would take time from the others
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return _channels_first(lambda x: session.run(None, {"photos": x})[0])


def _channels_first(infer: Callable[[NDArray[np.float32]], Any]) -> Engine:
    def run(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(infer(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))).transpose(0, 2, 3, 1).copy()

    return run


BOTH = ("float32", "bfloat16")
ENGINES: Sequence[tuple[str, tuple[str, ...], tuple[str, ...], Callable[[Arrays, str], Engine]]] = (
    ("TensorFlow", ("tensorflow",), BOTH, tensorflow_engine),
    ("PyTorch", ("torch",), BOTH, torch_engine),
    ("OpenVINO", ("openvino", "onnx"), BOTH, openvino_engine),
    ("ONNX Runtime", ("onnxruntime", "onnx"), ("float32", "int8"), onnxruntime_engine),
    ("LiteRT", ("ai_edge_litert",), ("int8",), litert_engine),
)
"""Name, modules it needs, precisions, how it is built."""


def build_engines() -> Iterator[tuple[tuple[str, str], Engine]]:
    """Each engine that is installed, in each of its precisions."""
    arrays = draw_arrays()
    for name, modules, precisions, build in ENGINES:
        if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
            print(f"{name}: left out, {', '.join(missing)} not installed")
            continue
        for precision in precisions:
            yield (name, precision), build(arrays, precision)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    print(describe_machine())
    start_tensorflow()
    engines = dict(build_engines())
    x = draw_photos()
    features = {key: engine(x) for key, engine in engines.items()}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in engines}
    for number in range(rounds + 1):
        for key, engine in engines.items():
            started = time.perf_counter()
            engine(x)
            if number:  # the first round is not counted
                seconds[key].append(time.perf_counter() - started)
    reference = features["TensorFlow", "float32"]
    for (name, precision), times in seconds.items():
        off = float(np.abs(features[name, precision] - reference).mean() / np.abs(reference).mean())
        beside = precision if precision in BOTH else "bfloat16"
        faster = [own / other for own, other in zip(seconds["TensorFlow", beside], times, strict=True)]
        each_ms = show_spread([1e3 * s / BATCH_SIZE for s in times])
        print(
            f"{name:13} {precision:9} {each_ms:>24} ms a photo  {show_spread(faster, 2):>20} times TensorFlow's speed in {beside}"
            f"  off by {off:.1e} of a feature's mean size"
        )


if __name__ == "__main__":
    main()
