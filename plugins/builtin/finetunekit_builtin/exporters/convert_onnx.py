"""SavedModel → .onnx, as a program of its own: `python -m … GRAPH OUT OPSET TEXTS.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

#: Axis of what goes in → its name.
AXES = ("batch", "height", "width")


def main(graph: str, out: str, opset: str, texts: str) -> None:
    """Convert, give outputs, dimensions and texts their names, check, and write the file.

    Args:
        graph: Folder of the SavedModel.
        out: File to write.
        opset: Version of the set of operations.
        texts: JSON file of what goes into `metadata_props`.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    _teach_erfc()
    saved = tf.saved_model.load(graph)  # kept: a signature does not hold its variables
    served = saved.signatures["serving_default"]
    (pixels,) = served.structured_input_signature[1].values()
    function = tf.function(lambda pixels: served(pixels=pixels), input_signature=[pixels])
    model, _ = tf2onnx.convert.from_function(function, input_signature=[pixels], opset=int(opset))
    _name_outputs(model.graph, sorted(served.structured_outputs))
    _name_dimensions(model.graph)
    onnx.helper.set_model_props(model, json.loads(Path(texts).read_text(encoding="utf-8")))
    onnx.checker.check_model(model, full_check=True)
    Path(out).write_bytes(model.SerializeToString())


def _teach_erfc() -> None:
    """An operation that tf2onnx 1.17 does not know, and GELU is made of: 1 - erf."""
    import numpy as np
    from tf2onnx import utils
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class _Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            shapes, types = node.output_shapes, node.output_dtypes
            one = ctx.make_const(utils.make_name("one"), np.array(1, utils.map_onnx_to_numpy_type(types[0])))
            erf = ctx.make_node("Erf", node.input, shapes=shapes, dtypes=types)
            ctx.remove_node(node.name)
            ctx.make_node(
                "Sub", [one.output[0], erf.output[0]], outputs=node.output, name=node.name, shapes=shapes, dtypes=types
            )


def _name_outputs(graph: Any, names: list[str]) -> None:
    """TensorFlow gives a dictionary's values in the order of its sorted keys."""
    renamed = {output.name: name for output, name in zip(graph.output, names, strict=True)}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for output in graph.output:
        output.name = renamed[output.name]


def _name_dimensions(graph: Any) -> None:
    for place, dimension in enumerate(graph.input[0].type.tensor_type.shape.dim):
        if not dimension.dim_value:
            dimension.dim_param = AXES[place]
    for output in graph.output:
        dimension = output.type.tensor_type.shape.dim[0]
        if not dimension.dim_value:
            dimension.dim_param = AXES[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
