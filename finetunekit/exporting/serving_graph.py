"""A servable as TensorFlow functions: photos of any size, or resized squares, to probabilities; and the same with what lies between."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finetunekit.data.decode import CROP_SCALE
from finetunekit.exporting.resampling_graph import pad_photos, resize_photos
from finetunekit.models.preprocessing import standardise
from finetunekit.types import Servable

if TYPE_CHECKING:
    import tensorflow as tf

#: Names of what goes in and comes out.
PIXELS, PROBABILITIES = "pixels", "probabilities"
#: What comes out, in order, where a servable has its points.
POINTS = ("square", "input", "logits", PROBABILITIES)


def save_graph(
    servable: Servable,
    folder: Path,
    *,
    takes: Literal["pixels", "square"] = "pixels",
    is_float: bool = False,
    has_encoded: bool = False,
    is_inlined: bool = True,
) -> None:
    """Write a servable as a SavedModel without training operations: for TensorFlow, and what converters start from.

    Its signature `serving_default` takes `pixels` and gives `probabilities`; with `servable.has_points` also `logits`, `input` as the
    network is fed, and `square` `(batch, size_px, size_px, 3)` where it resizes.

    Args:
        servable: What is written.
        folder: Made here.
        takes: `pixels`: `(batch, height, width, 3)` uint8 RGB of any size; `square`: of the network's size.
        is_float: The same values as float32, for converters that give the input its type themselves.
        has_encoded: Add the signature `encoded`: `(batch,)` JPEG or PNG files as bytes; they are not turned as their EXIF orientation says.
            And `decode`, its first step alone: the bytes of one file → `pixels` `(height, width, 3)` uint8.
        is_inlined: Put what the network calls in its place. Keras calls grouped convolutions as functions that XLA compiles: TensorFlow
            itself can run those only so on some processors, and no converter takes such a call.
    """
    import tensorflow as tf

    module = tf.Module(name="served")
    module.network = servable.network  # what holds the variables
    signatures = {"serving_default": _serve(servable, takes, tf.float32 if is_float else tf.uint8)}
    if has_encoded:
        signatures |= {"encoded": _serve_encoded(servable), "decode": _serve_decoder()}
    with _inlined() if is_inlined else contextlib.nullcontext():
        tf.saved_model.save(module, str(folder), signatures=signatures)


@contextlib.contextmanager
def _inlined() -> Iterator[None]:
    """While a graph is traced, functions that it calls are traced as part of it."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _serve(servable: Servable, takes: str, dtype: Any) -> Any:
    import tensorflow as tf

    size = None if takes == "pixels" else servable.size_px

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), dtype, name=PIXELS)])  # type: ignore[untyped-decorator]
    def serve(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        photos = tf.cast(pixels, tf.float32)
        points = points_of(servable, photos if size else fit_photos(photos, servable))
        if size:
            del points["square"]  # it is what came in
        return _wanted(servable, points)

    return serve


def _serve_encoded(servable: Servable) -> Any:
    import tensorflow as tf

    size = servable.size_px

    def square_of(file: tf.Tensor) -> tf.Tensor:
        return fit_photos(tf.cast(_decoded(file), tf.float32)[tf.newaxis], servable)[0]

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="encoded")])  # type: ignore[untyped-decorator]
    def serve(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        squares = tf.map_fn(square_of, encoded, fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32))
        return _wanted(servable, points_of(servable, squares))

    return serve


def _serve_decoder() -> Any:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((), tf.string, name="encoded")])  # type: ignore[untyped-decorator]
    def decode(encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        return {PIXELS: _decoded(encoded)}

    return decode


def _decoded(file: tf.Tensor) -> tf.Tensor:
    """Bytes of a JPEG or PNG file → `(height, width, 3)` uint8."""
    import tensorflow as tf

    return tf.cond(
        tf.io.is_jpeg(file),
        lambda: tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE"),  # as Pillow decodes
        lambda: tf.io.decode_png(file, channels=3),
    )


def _wanted(servable: Servable, points: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return points if servable.has_points else {PROBABILITIES: points[PROBABILITIES]}


def points_of(servable: Servable, square: tf.Tensor) -> dict[str, tf.Tensor]:
    """Every point of the way from resized photos to probabilities.

    Args:
        servable: What is computed.
        square: `(batch, size_px, size_px, 3)` float32 RGB in [0, 255].

    Returns:
        `square`, `input` as the network is fed, `logits` and `probabilities` `(batch, classes)` float32.
    """
    import tensorflow as tf

    fed = standardise(square, servable.pixels)
    logits = servable.network(fed, training=False)
    averaged = logits
    if servable.is_mirrored:
        averaged = _log_mean(logits, servable.network(tf.reverse(fed, axis=[2]), training=False))
    # times, not divided by: 8-bit arithmetic has no division
    probabilities = tf.nn.softmax(averaged * (1.0 / servable.temperature))
    return {"square": square, "input": fed, "logits": logits, PROBABILITIES: probabilities}


def _log_mean(logits: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Logarithm of the sum of two softmaxes, `(batch, classes)`: logits of their mean."""
    import tensorflow as tf

    first, second = tf.nn.log_softmax(logits), tf.nn.log_softmax(mirrored)
    largest = tf.maximum(first, second)
    return largest + tf.math.log(tf.exp(first - largest) + tf.exp(second - largest))


def fit_photos(photos: tf.Tensor, servable: Servable) -> tf.Tensor:
    """`finetunekit.data.decode.fit_photo` as operations.

    Args:
        photos: `(batch, height, width, 3)` float32 whole numbers in [0, 255]; height and width may be known only when the graph runs.
        servable: Gives size, filter, fit and crop.

    Returns:
        `(batch, size_px, size_px, 3)` float32 whole numbers in [0, 255].
    """
    import tensorflow as tf

    if servable.source_px is not None:
        photos = _shrunk(photos, servable.source_px)
    size = servable.size_px
    if servable.fit == "pad":
        return tf.reshape(pad_photos(photos, size, servable.resize), (-1, size, size, 3))
    if servable.fit == "crop":
        photos = _centre(photos, 1.0 if servable.crop_pct is None else servable.crop_pct)
    return tf.reshape(resize_photos(photos, size, size, servable.resize), (-1, size, size, 3))


def _centre(photos: tf.Tensor, crop_pct: float) -> tf.Tensor:
    """The square that `finetunekit.data.decode.crop_side_px` names."""
    import tensorflow as tf

    height, width = tf.shape(photos)[1], tf.shape(photos)[2]
    side = tf.minimum(height, width)
    if crop_pct != 1:
        side = tf.maximum(1, (side * round(crop_pct * CROP_SCALE) + CROP_SCALE // 2) // CROP_SCALE)
    top, left = (height - side) // 2, (width - side) // 2
    return photos[:, top : top + side, left : left + side]


def _shrunk(photos: tf.Tensor, source_px: int) -> tf.Tensor:
    """As `finetunekit.data.decode.shrink_photo`."""
    import tensorflow as tf

    height, width = tf.shape(photos)[1], tf.shape(photos)[2]
    long = tf.maximum(height, width)

    def side(length: tf.Tensor) -> tf.Tensor:
        return tf.maximum(1, _divided_to_even(length * source_px, long))

    return tf.cond(
        long > source_px, lambda: resize_photos(photos, side(height), side(width), "lanczos"), lambda: photos
    )


def _divided_to_even(part: Any, whole: Any) -> Any:
    """`round(part / whole)`, halves to even numbers, in whole numbers."""
    import tensorflow as tf

    quotient, rest = part // whole, part % whole
    is_up = tf.logical_or(2 * rest > whole, tf.logical_and(tf.equal(2 * rest, whole), tf.equal(quotient % 2, 1)))
    return quotient + tf.cast(is_up, tf.int32)
