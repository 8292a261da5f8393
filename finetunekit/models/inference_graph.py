"""What a trained network computes as a plain graph: it answers photos without being built by its plugins again, which takes far longer.

Only graphs of pure arithmetic are kept: one from a stranger's run can then do no more harm than its weights can. A network that does
anything else, such as drawing lots, is built again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.forward import Answers, answering_model, as_answers, in_batches, trace
from finetunekit.system.formatting import one_line

if TYPE_CHECKING:
    import keras

GRAPH, _FED = "graph", "fed/"
_ARITHMETIC = (
    "Abs Add AddN AddV2 AvgPool BatchMatMulV2 BatchMatMulV3 BiasAdd Cast ConcatV2 Const Conv2D DepthwiseConv2dNative Einsum "
    "Elu Equal Erf Exp ExpandDims Fill FusedBatchNormV3 GatherV2 Greater GreaterEqual Identity IdentityN LeakyRelu Less "
    "LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot MatMul Max MaxPool Maximum Mean Min Minimum MirrorPad Mul Neg "
    "NotEqual OnesLike Pack Pad PadV2 Pow Prod Range RealDiv Reciprocal Relu Relu6 Reshape ResizeBilinear "
    "ResizeNearestNeighbor ReverseV2 Rsqrt Select SelectV2 Selu Shape Sigmoid Sign Slice Softmax Softplus Softsign Split SplitV "
    "Sqrt Square SquaredDifference Squeeze StopGradient StridedSlice Sub Sum Tanh Tile Transpose Unpack ZerosLike"
)
_PURE = frozenset(_ARITHMETIC.split())


def graph_arrays(
    logits: keras.Model, names: Mapping[int, str], batch_size: int
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The answering pass of a network, as plain values and arrays for the file that holds its weights.

    Args:
        logits: `(batch, size, size, 3)` → `(batch, classes)`.
        names: `id` of a variable's handle → name of its array in that file.
        batch_size: Photos of one pass.

    Returns:
        What `graph_answering` takes; nothing where the network does more than arithmetic.
    """
    import tensorflow as tf

    traced = trace(answering_model(logits), batch_size)
    definition = traced.graph.as_graph_def()
    captured = {inner.op.name: outer for outer, inner in traced.graph.captures}
    handles = {name: names.get(id(outer)) for name, outer in captured.items() if outer.dtype == tf.resource}
    values = {name: np.asarray(outer) for name, outer in captured.items() if name not in handles}
    # Weights stay inputs: as constants they would be folded into one another, which rounds otherwise.
    read = {node.name: handles.get(node.input[0]) for node in definition.node if node.op == "ReadVariableOp"}
    photos = traced.inputs[0].op.name
    _drop_nodes(definition, {photos, *values, *handles, *read})
    if None in read.values() or not _is_pure(definition):
        return {}, {}
    short = _rename(definition, (photos, *values, *read))
    constants = {f"{_FED}{short[node]}": array for node, array in values.items()}
    about = {
        "tensorflow": tf.__version__,
        "shape": traced.inputs[0].shape.as_list(),
        "photos": short[photos],
        "arrays": {short[node]: name for node, name in read.items()}
        | {name.removeprefix(_FED): name for name in constants},
        "outputs": [f"{short[tensor.op.name]}:{tensor.value_index}" for tensor in traced.outputs],
    }
    content = np.frombuffer(definition.SerializeToString(deterministic=True), np.uint8)
    return {GRAPH: about}, {GRAPH: content, **constants}


def graph_answering(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Callable[..., Answers] | None:
    """As `finetunekit.models.forward.make_answering`, to the bit, from what `graph_arrays` gave.

    Args:
        about: Its plain values.
        arrays: Its arrays, and those of the weights.

    Returns:
        None where there is no graph, or another version of TensorFlow made it: that may compute it otherwise.

    Raises:
        ValueError: If the graph does more than arithmetic, or is damaged.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework.graph_pb2 import GraphDef

    kept = about.get(GRAPH)
    if kept is None or kept["tensorflow"] != tf.__version__:
        return None
    try:
        definition = GraphDef.FromString(arrays[GRAPH].tobytes())
        return _imported(definition, kept, arrays)
    except (DecodeError, tf.errors.OpError) as exc:
        raise ValueError(one_line(exc)) from exc


def _imported(definition: Any, kept: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Callable[..., Answers]:
    import tensorflow as tf

    if not _is_pure(definition):
        raise ValueError("its graph does more than arithmetic")
    fed = [tf.constant(arrays[name]) for name in kept["arrays"].values()]
    feeds = [f"{node}:0" for node in (kept["photos"], *kept["arrays"])]

    def imported(*given: Any) -> Any:
        inputs = dict(zip(feeds, given, strict=True))
        return tf.graph_util.import_graph_def(definition, input_map=inputs, return_elements=kept["outputs"], name="")

    specs = [tf.TensorSpec(kept["shape"], tf.float32), *(tf.TensorSpec(array.shape, array.dtype) for array in fed)]
    step = tf.function(imported, autograph=False).get_concrete_function(*specs)
    shapes = [tuple(output.shape[1:]) for output in step.outputs]
    return as_answers(in_batches(lambda photos: step(photos, *fed), kept["shape"][0], shapes))


def _drop_nodes(definition: Any, names: Collection[str]) -> None:
    """Take nodes out of a graph whose outputs are fed, and the order of execution, which arithmetic does not need."""
    kept = [node for node in definition.node if node.name not in names and node.op != "NoOp"]
    for node in kept:
        node.input[:] = [place for place in node.input if not place.startswith("^")]
    copies = [type(node).FromString(node.SerializeToString()) for node in kept]
    del definition.node[:]
    definition.node.extend(copies)


def _rename(definition: Any, fed: Iterable[str]) -> dict[str, str]:
    """Give nodes names that do not depend on what was built before, drop what only says where they came from; old name → new one."""
    names = {name: f"n{i}" for i, name in enumerate((*fed, *(node.name for node in definition.node)))}
    for node in definition.node:
        node.name, node.device = names[node.name], ""
        node.input[:] = [_renamed(place, names) for place in node.input]
        for said in [key for key in node.attr if key.startswith("_")]:
            del node.attr[said]
    return names


def _renamed(place: str, names: Mapping[str, str]) -> str:
    name, colon, number = place.partition(":")
    return f"{names[name]}{colon}{number}"


def _is_pure(definition: Any) -> bool:
    return not definition.library.function and all(node.op in _PURE for node in definition.node)
