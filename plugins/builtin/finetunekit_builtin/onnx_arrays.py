"""Named float32 arrays out of an ONNX file, without the onnx package and without running anything in it.

Only what holds initializers is read; every other field is skipped by its length. Field numbers are those of onnx.proto.

Source: github.com/onnx/onnx, onnx/onnx.proto; wire format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit import WeightsError, read_regular

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL_GRAPH, GRAPH_INITIALIZER = 7, 5
TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_FLOAT_DATA, TENSOR_NAME, TENSOR_RAW_DATA = 1, 2, 4, 8, 9
FLOAT32 = 1
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_FILE_BYTES = 2 << 30  # no protobuf message may be larger


def read_initializers(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every float32 initializer of the main graph.

    Args:
        path: ONNX file with its arrays inside (no external data).

    Returns:
        Arrays by initializer name, in the shapes of the file; other data types are left out.

    Raises:
        WeightsError: If the file is larger than 2 GiB, cut off, or no ONNX file with initializers.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        raise WeightsError(f"{path.name}: larger than 2 GiB, which no ONNX file can be.")
    graphs = [
        graph
        for number, graph in _fields(memoryview(read_regular(path, most_bytes=MAX_FILE_BYTES)))
        if number == MODEL_GRAPH
    ]
    tensors = [_tensor(t) for graph in graphs for number, t in _fields(_bytes(graph)) if number == GRAPH_INITIALIZER]
    arrays = dict(tensor for tensor in tensors if tensor is not None)
    if not arrays:
        raise WeightsError(f"{path.name}: holds no ONNX initializers.")
    return arrays


def _tensor(field: memoryview | int) -> tuple[str, NDArray[np.float32]] | None:
    """Name and array of one TensorProto; None unless it is float32."""
    import numpy as np

    name, data_type, shape = "", 0, list[int]()
    data = memoryview(b"")
    for number, value in _fields(_bytes(field)):
        if number == TENSOR_DIMS:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif number == TENSOR_DATA_TYPE and isinstance(value, int):
            data_type = value
        elif number == TENSOR_NAME:
            name = str(_bytes(value), "utf-8", "replace")
        elif number in (TENSOR_RAW_DATA, TENSOR_FLOAT_DATA):
            data = _bytes(value)  # packed float_data and raw_data are the same little-endian bytes
    if data_type != FLOAT32:
        return None
    if len(data) != 4 * math.prod(shape):
        raise WeightsError(f"ONNX initializer '{name}' has {len(data)} bytes for shape {shape}.")
    return name, np.frombuffer(data, dtype="<f4").reshape(shape)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field of one message: varints as int, everything else as bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        size, position = _size(message, position, wire_type)
        if position + size > len(message):
            raise WeightsError("ONNX file is cut off, or is none.")
        yield number, message[position : position + size]
        position += size


def _size(message: memoryview, position: int, wire_type: int) -> tuple[int, int]:
    """Length of a field that is no varint, and where its bytes begin."""
    if wire_type == LENGTH:
        return _varint(message, position)
    if wire_type not in (FIXED32, FIXED64):
        raise WeightsError("not an ONNX file.")
    return (4 if wire_type == FIXED32 else 8), position


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """One variable-length integer of at most ten bytes, and where the next field begins."""
    value = 0
    for shift, byte in enumerate(message[position : position + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position + shift + 1
    raise WeightsError("ONNX file is cut off, or is none.")


def _varints(packed: memoryview) -> list[int]:
    """A packed list of integers."""
    values, position = list[int](), 0
    while position < len(packed):
        value, position = _varint(packed, position)
        values.append(value)
    return values


def _bytes(value: memoryview | int) -> memoryview:
    """A field that must be bytes."""
    if isinstance(value, int):
        raise WeightsError("not an ONNX file.")
    return value
