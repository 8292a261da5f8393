"""Predictions of a network on photos, and the rows and scores that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.models.feature_cache import EXTRACTION_BATCH, pad_batch
from finetunekit.models.feature_files import release
from finetunekit.models.preprocessing import as_input
from finetunekit.statistics import softmax
from finetunekit.types import PixelContract

if TYPE_CHECKING:
    import keras

SUFFIX_BATCH = 256


def input_batches(
    photos: NDArray[np.uint8], contract: PixelContract, size: int = EXTRACTION_BATCH
) -> Iterator[NDArray[np.float32]]:
    """Un-augmented photos as standardised batches, `(at most size, height, width, 3)` float32, in order."""
    for start in range(0, len(photos), size):
        yield as_input(photos[start : start + size], contract)


def make_forward(model: keras.Model, batch_size: int) -> Callable[..., NDArray[np.float32]]:
    """Inference in batches of one fixed size, so that a photo's logits do not depend on which photos came with it.

    Returns:
        A function of one array a model input, `(photos, ...)`, to logits `(photos, classes)` float32.
    """
    import tensorflow as tf

    specs = [tf.TensorSpec((batch_size, *t.shape[1:]), t.dtype) for t in model.inputs]
    step = tf.function(lambda *x: model(x[0] if len(x) == 1 else list(x), training=False)).get_concrete_function(*specs)

    def forward(*arrays: NDArray[Any]) -> NDArray[np.float32]:
        outputs = []
        for start in range(0, len(arrays[0]), batch_size):
            parts = [a[start : start + batch_size] for a in arrays]
            logits = step(*(tf.constant(pad_batch(part, batch_size)) for part in parts))
            release(arrays)  # cached features are mapped from a file
            outputs.append(logits.numpy()[: len(parts[0])])
        return np.concatenate(outputs) if outputs else np.zeros((0, model.output_shape[-1]), np.float32)

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
    own = softmax(predict(photos))
    return (own + softmax(predict(photos[:, :, ::-1]))) / 2 if is_flipped else own
