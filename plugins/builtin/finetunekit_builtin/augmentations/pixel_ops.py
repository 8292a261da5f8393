"""What colour augmentations are made of: operations on float32 pixels in [0, 255], each photo with a strength of its own.

Source: torchvision 0.20, transforms/_functional_tensor.py, on floats: nothing is rounded between operations, where torchvision rounds to
whole levels after each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

#: Rec. 601 luma, as in Pillow's and torchvision's conversion to grey.
_LUMA = (0.2989, 0.587, 0.114)


def per_photo(values: tf.Tensor) -> tf.Tensor:
    """`(batch,)` → `(batch, 1, 1, 1)` float32."""
    import tensorflow as tf

    return tf.cast(values, tf.float32)[:, tf.newaxis, tf.newaxis, tf.newaxis]


def grey(images: tf.Tensor) -> tf.Tensor:
    """Luma, `(batch, height, width, 1)`."""
    import tensorflow as tf

    return tf.tensordot(images, tf.constant(_LUMA)[:, tf.newaxis], 1)


def blend(images: tf.Tensor, other: Any, factor: tf.Tensor) -> tf.Tensor:
    """`factor` of the photo and `1 - factor` of the other, cut off at black and white."""
    import tensorflow as tf

    factor = per_photo(factor)
    return tf.clip_by_value(factor * images + (1 - factor) * other, 0.0, 255.0)


def brightness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blend with black."""
    return blend(images, 0.0, factor)


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blend with the photo's mean luma."""
    import tensorflow as tf

    return blend(images, tf.reduce_mean(grey(images), axis=[1, 2, 3], keepdims=True), factor)


def saturation(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blend with the grey photo."""
    return blend(images, grey(images), factor)


def hue(images: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Turn the hue by `turn` circles."""
    import tensorflow as tf

    hsv = tf.image.rgb_to_hsv(images / 255.0)
    turned = tf.math.floormod(hsv[..., :1] + per_photo(turn), 1.0)
    return tf.clip_by_value(tf.image.hsv_to_rgb(tf.concat([turned, hsv[..., 1:]], axis=-1)) * 255.0, 0.0, 255.0)


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blend with the photo smoothed by (1 1 1; 1 5 1; 1 1 1) / 13; the outermost pixels stay."""
    import tensorflow as tf

    inner = images[:, 1:-1, 1:-1]
    smooth = (_sum_of_three(_sum_of_three(images, 1), 2) + 4.0 * inner) / 13.0
    other = images + tf.pad(smooth - inner, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return blend(images, other, factor)


def _sum_of_three(images: tf.Tensor, axis: int) -> tf.Tensor:
    """Sums of three neighbours along an axis, which becomes two shorter."""
    if axis == 1:
        return images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    return images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]


def posterize(images: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keep the highest `bits` of 8."""
    import tensorflow as tf

    step = per_photo(2.0 ** (8.0 - tf.cast(bits, tf.float32)))
    return tf.floor(images / step) * step


def solarize(images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Invert what is at least as bright as the threshold."""
    import tensorflow as tf

    return tf.where(images >= per_photo(threshold), 255.0 - images, images)


def autocontrast(images: tf.Tensor) -> tf.Tensor:
    """Stretch each channel to [0, 255]; a channel of one level stays."""
    import tensorflow as tf

    low = tf.reduce_min(images, axis=[1, 2], keepdims=True)
    span = tf.reduce_max(images, axis=[1, 2], keepdims=True) - low
    is_flat = span <= 0
    stretched = (images - low) * 255.0 / tf.where(is_flat, 1.0, span)
    return tf.where(is_flat, images, tf.clip_by_value(stretched, 0.0, 255.0))


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Make the histogram of each channel flat, on whole levels, as Pillow does."""
    import tensorflow as tf

    shape = tf.shape(images)
    levels = tf.cast(tf.clip_by_value(tf.floor(images), 0.0, 255.0), tf.int32)
    rows = tf.reshape(tf.transpose(levels, [0, 3, 1, 2]), [shape[0] * 3, shape[1] * shape[2]])
    # pixels darker than each level, `(batch · 3, 257)`: by sorting, since a histogram is not the same twice on a GPU
    bounds = tf.tile(tf.range(257)[tf.newaxis], [shape[0] * 3, 1])
    below = tf.searchsorted(tf.sort(rows, axis=1), bounds)
    brightest = tf.gather(below, tf.reduce_max(rows, axis=1), batch_dims=1)[
        :, tf.newaxis
    ]  # pixels below the brightest level
    step = brightest // 255
    table = tf.minimum((below[:, :256] + step // 2) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, tf.range(256))
    flat = tf.reshape(tf.gather(table, rows, batch_dims=1), [shape[0], 3, shape[1], shape[2]])
    return tf.cast(tf.transpose(flat, [0, 2, 3, 1]), tf.float32)
