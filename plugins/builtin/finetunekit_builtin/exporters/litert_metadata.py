"""Labels and texts inside a .tflite file, where LiteRT's tools and MediaPipe look for them.

The metadata is a flatbuffer of its own in one of the model's buffers; the label file lies in a zip archive behind the model's last byte.

Source: tensorflow/tflite-support, tensorflow_lite_support/metadata/metadata_schema.fbs, version 1.5.0 (order and numbers of the fields).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

from finetunekit import Servable
from finetunekit_builtin.exporters.conversion import texts_of

LABELS, TEXTS = "labels.txt", "finetunekit.json"
_NAME, _IDENTIFIER = "TFLITE_METADATA", b"M001"
_IMAGE, _NORMALIZATION, _RGB, _AXIS_LABELS, _DESCRIPTIONS = 2, 1, 1, 2, 1


def with_metadata(model: bytes, servable: Servable) -> bytes:
    """The same model with class names and texts inside.

    Args:
        model: Content of a .tflite file; its first output is `probabilities`.
        servable: Gives both.
    """
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    content = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = content.subgraphs[0]
    buffer = schema.BufferT()
    buffer.data = _metadata(servable, [graph.tensors[i].name for i in graph.inputs], len(graph.outputs))
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(content.buffers)
    content.buffers.append(buffer)
    content.metadata = [*(content.metadata or []), entry]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output()) + _archive(servable)


def read_texts(file: Any) -> dict[str, str]:
    """What `with_metadata` packed beside the labels."""
    with zipfile.ZipFile(file) as archive:
        texts: dict[str, str] = json.loads(archive.read(TEXTS))
        return texts


def read_labels(file: Any) -> tuple[str, ...]:
    """The class names, one a line in the label file; a line break in a name is written as `\\n`."""
    with zipfile.ZipFile(file) as archive:
        lines = archive.read(LABELS).decode().split("\n")[:-1]
    return tuple(json.loads(f'"{line}"') for line in lines)


def _archive(servable: Servable) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        # stored, with a fixed date: some readers map them as they are, and the same run gives the same bytes
        archive.writestr(zipfile.ZipInfo(LABELS), "".join(f"{_on_one_line(name)}\n" for name in servable.classes))
        archive.writestr(zipfile.ZipInfo(TEXTS), json.dumps(texts_of(servable), ensure_ascii=False, indent=1))
    return stream.getvalue()


def _on_one_line(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)[1:-1]


def _metadata(servable: Servable, inputs: Sequence[str], outputs: int) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    files = _vector(builder, [_file(builder, LABELS, "One class a line, in the order of the output.", _AXIS_LABELS)])
    given = _table(builder, {0: builder.CreateString("pixels"), 3: _content(builder), 4: _identity(builder)})
    answer = _table(builder, {0: builder.CreateString("probabilities"), 6: files})
    others = [_table(builder, {0: builder.CreateString(f"point{i}")}) for i in range(1, outputs)]
    graph = _table(builder, {2: _vector(builder, [given] * len(inputs)), 3: _vector(builder, [answer, *others])})
    texts = {0: servable.name, 1: f"Classes: {', '.join(servable.classes)}", 5: servable.metadata.get("licence", "")}
    fields = {place: builder.CreateString(text) for place, text in texts.items()}
    packed = _vector(builder, [_file(builder, TEXTS, "Run, checksums, licence, attribution.", _DESCRIPTIONS)])
    parser = builder.CreateString("1.0.0")
    builder.Finish(_table(builder, {**fields, 3: _vector(builder, [graph]), 6: packed, 7: parser}), _IDENTIFIER)
    return bytes(builder.Output())


def _file(builder: Any, name: str, description: str, kind: int) -> int:
    texts = {0: builder.CreateString(name), 1: builder.CreateString(description)}
    return _table(builder, texts, {2: kind})


def _content(builder: Any) -> int:
    """An RGB picture."""
    image = _table(builder, {}, {0: _RGB})
    return _table(builder, {1: image}, {0: _IMAGE})


def _identity(builder: Any) -> int:
    """Pixels as they are: whatever the network wants is inside the model."""
    mean, std = _floats(builder, [0.0]), _floats(builder, [1.0])
    options = _table(builder, {0: mean, 1: std})
    return _vector(builder, [_table(builder, {1: options}, {0: _NORMALIZATION})])


def _table(builder: Any, offsets: dict[int, int], numbers: dict[int, int] | None = None) -> int:
    """A table of fields by their place in the schema; `numbers` are of one byte."""
    builder.StartObject(12)
    for place, value in (numbers or {}).items():
        builder.PrependInt8Slot(place, value, 0)
    for place, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(place, offset, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: Any, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
