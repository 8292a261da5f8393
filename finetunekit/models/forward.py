"""Predictions of a network on photos, and the rows and scores that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.feature_cache import EXTRACTION_BATCH, pad_batch
from finetunekit.models.feature_files import release
from finetunekit.models.folded_norm import trace_forward
from finetunekit.models.preprocessing import as_input
from finetunekit.statistics import softmax
from finetunekit.types import PixelContract

if TYPE_CHECKING:
    import keras

SUFFIX_BATCH = 256

Answers = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Logits `(photos, classes)`, and what the last layer reads, `(photos, channels)`; None in place of it where it reads no vector."""


def input_batches(
    photos: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], contract: PixelContract, size: int = EXTRACTION_BATCH
) -> Iterator[NDArray[np.float32]]:
    """Un-augmented photos, in one array or many, as standardised batches `(at most size, height, width, 3)` float32, in order."""
    for start in range(0, len(photos), size):
        yield as_input(np.asarray(photos[start : start + size]), contract)


def make_forward(model: keras.Model, batch_size: int) -> Callable[..., NDArray[np.float32]]:
    """Inference in batches of one fixed size, so that a photo's logits do not depend on which photos came with it.

    Returns:
        A function of one array a model input, `(photos, ...)`, to logits `(photos, classes)` float32.
    """
    forward = _batched(model, batch_size)
    return lambda *arrays: forward(*arrays)[0]


def make_answering(model: keras.Model, batch_size: int) -> Callable[..., Answers]:
    """As `make_forward`, in the same pass with what the last layer reads.

    Returns:
        A function of one array a model input, `(photos, ...)`.
    """
    return as_answers(_batched(answering_model(model), batch_size))


def answering_model(model: keras.Model) -> keras.Model:
    """A network with what its last layer reads as a second output, where it reads a vector, a map or tokens."""
    import keras

    read = last_features(model)
    return model if read is None else keras.Model(model.inputs, [model.outputs[0], read])


def as_answers(forward: Callable[..., Sequence[NDArray[np.float32]]]) -> Callable[..., Answers]:
    """What gives logits, and perhaps features, as a function that gives both or says that there are none."""

    def answer(*arrays: NDArray[Any]) -> Answers:
        logits, *features = forward(*arrays)
        return logits, features[0] if features else None

    return answer


def answer_photos(forward: Callable[..., Answers], photos: NDArray[np.uint8], contract: PixelContract) -> Answers:
    """Answers for un-augmented photos.

    Args:
        forward: What `make_answering` made of a network.
        photos: `(photos, size, size, 3)` uint8 RGB, at least one.
        contract: What the network is fed by.
    """
    logits, features = zip(*(forward(batch) for batch in input_batches(photos, contract)), strict=True)
    return np.concatenate(logits), None if features[0] is None else np.concatenate(features)


def last_features(model: keras.Model) -> keras.KerasTensor | None:
    """What the last layer with weights reads, one vector a photo, a map or tokens averaged; None where it reads something else.

    Where several such layers answer together, as in an ensemble, what each of them reads, side by side, each of length 1.

    Args:
        model: Any input → logits.
    """
    import keras

    read = _read_last(model.outputs[0])
    if read is None:
        return None
    vectors = [_as_vector(tensor) for tensor in {id(tensor): tensor for tensor in read}.values()]
    if len(vectors) == 1:
        return vectors[0]
    return keras.ops.concatenate([keras.ops.normalize(vector, axis=-1) for vector in vectors], axis=-1)


def _read_last(tensor: keras.KerasTensor) -> list[keras.KerasTensor] | None:
    """What the last operations with weights before a tensor read; None where one of them reads several tensors, or none is before it."""
    history = tensor._keras_history
    operation = history.operation
    inputs = operation._inbound_nodes[history.node_index].input_tensors
    if getattr(operation, "weights", ()):
        return [inputs[0]] if len(inputs) == 1 else None
    found = [_read_last(one) for one in inputs]
    return None if not found or None in found else [tensor for part in found if part for tensor in part]


def _as_vector(tensor: keras.KerasTensor) -> keras.KerasTensor:
    import keras

    places = tuple(range(1, len(tensor.shape) - 1))
    return keras.ops.mean(tensor, axis=places) if places else keras.ops.cast(tensor, "float32")


def trace(model: keras.Model, batch_size: int) -> Any:
    """Inference of a network as a TensorFlow function of one tensor a model input, each of so many photos."""
    import tensorflow as tf

    specs = [tf.TensorSpec((batch_size, *t.shape[1:]), t.dtype) for t in model.inputs]
    return trace_forward(model, *specs)


def _batched(model: keras.Model, batch_size: int) -> Callable[..., list[NDArray[np.float32]]]:
    """Arrays, one a model input → arrays, one a model output."""
    return in_batches(trace(model, batch_size), batch_size, [tuple(tensor.shape[1:]) for tensor in model.outputs])


def in_batches(
    step: Callable[..., Any], batch_size: int, shapes: Sequence[tuple[int, ...]]
) -> Callable[..., list[NDArray[np.float32]]]:
    """Any number of photos through a function of so many, the last batch padded.

    Args:
        step: One tensor an input, `(batch_size, ...)` → one an output.
        batch_size: Photos of one pass.
        shapes: Of each output, without the photos.
    """
    import tensorflow as tf

    def forward(*arrays: NDArray[Any]) -> list[NDArray[np.float32]]:
        found: list[list[NDArray[np.float32]]] = [[] for _ in shapes]
        for start in range(0, len(arrays[0]), batch_size):
            parts = [a[start : start + batch_size] for a in arrays]
            given = step(*(tf.constant(pad_batch(part, batch_size)) for part in parts))
            release(arrays)  # cached features are mapped from a file
            for output, values in zip(found, given if isinstance(given, (list, tuple)) else [given], strict=True):
                output.append(np.asarray(values.numpy()[: len(parts[0])], np.float32))
        return [
            np.concatenate(output) if output else np.zeros((0, *shape), np.float32)
            for output, shape in zip(found, shapes, strict=True)
        ]

    return forward


def predict_photos(model: keras.Model, photos: NDArray[np.uint8], contract: PixelContract) -> NDArray[np.float32]:
    """Logits of un-augmented photos.

    Args:
        model: `(batch, size, size, 3)` → logits.
        photos: `(photos, size, size, 3)` uint8 RGB.
        contract: What the network is fed by.

    Returns:
        `(photos, classes)` float32.
    """
    forward = make_forward(model, EXTRACTION_BATCH)
    parts = [forward(batch) for batch in input_batches(photos, contract)]
    return np.concatenate(parts) if parts else np.zeros((0, model.output_shape[-1]), np.float32)


def mean_over_flip(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]], photos: NDArray[np.uint8], *, is_flipped: bool
) -> NDArray[np.float64]:
    """Probabilities of photos; of each and of its mirror image in the mean, where that is asked for.

    Args:
        predict: Photos → logits, `(photos, classes)` float32.
        photos: `(photos, size, size, 3)` uint8 RGB.
        is_flipped: Whether mirror images count as well (`evaluate.flip`).

    Returns:
        `(photos, classes)` float64, rows sum to 1 within rounding.

    Source: Krizhevsky et al. 2012, section 4.1 (the network's softmax averaged over a photo's reflection), NIPS 25.
    """
    return mean_probabilities(predict(photos), predict(photos[:, :, ::-1]) if is_flipped else None)


def mean_probabilities(logits: NDArray[np.float32], mirrored: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Probabilities of photos, in the mean with those of their mirror images where these are given: see `mean_over_flip`."""
    own = softmax(logits)
    return own if mirrored is None else (own + softmax(mirrored)) / 2
