"""The weight gradient as matrix products: the same sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetunekit.models.classifier import precision_scope
from finetunekit.models.conv_gradient import conv2d_same, fast_gradients, is_eligible


def gradients(convolve: Any, x: Any, kernel: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = convolve(x, kernel)
        loss = tf.reduce_sum(
            tf.cast(y, tf.float32) * tf.reshape(tf.range(tf.size(y), dtype=tf.float32) % 7 - 3, y.shape)
        )
    return (y, *tape.gradient(loss, [x, kernel]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("side", [1, 3, 5])
def test_it_is_the_gradient_of_the_convolution(side: int, dtype: str) -> None:
    import tensorflow as tf

    generator = np.random.default_rng(side)
    x = tf.cast(generator.normal(size=(3, 6, 5, 4)), dtype)
    kernel = tf.cast(generator.normal(size=(side, side, 4, 2)), dtype)
    ours = gradients(conv2d_same, x, kernel)
    exact = gradients(lambda a, b: tf.nn.conv2d(a, b, 1, "SAME"), tf.cast(x, tf.float32), tf.cast(kernel, tf.float32))
    theirs = gradients(lambda a, b: tf.nn.conv2d(a, b, 1, "SAME"), x, kernel)
    assert np.array_equal(ours[0], theirs[0])
    assert np.array_equal(ours[1], theirs[1])
    error, their_error = (np.abs(np.asarray(g[2], np.float32) - exact[2]).max() for g in (ours, theirs))
    assert error <= max(their_error, np.abs(exact[2]).max() * 2.0 ** (-7 if dtype == "bfloat16" else -20))


def test_only_plain_trainable_convolutions_of_small_maps_are_eligible() -> None:
    import keras

    with precision_scope("bfloat16"):
        inputs = keras.Input((6, 6, 3))
        same = keras.layers.Conv2D(4, 3, padding="same")
        valid = keras.layers.Conv2D(4, 3)
        strided = keras.layers.Conv2D(4, 3, padding="same", strides=2)
        model = keras.Model(inputs, strided(valid(same(inputs))))
    assert [is_eligible(layer) for layer in (same, valid, strided)] == [True, False, False]
    same.trainable = False
    assert not is_eligible(same)
    same.trainable = True
    with fast_gradients(model) as count:
        assert count == 1
        assert same.convolution_op is conv2d_same
    assert same.convolution_op is not conv2d_same
    for shape, expected in (((6, 6, 3), True), ((14, 14, 3), True), ((15, 14, 3), False), ((None, None, 3), False)):
        single = keras.layers.Conv2D(4, 3, padding="same")
        single(keras.Input(shape))
        assert is_eligible(single) is expected
    half = keras.layers.Conv2D(4, 3, padding="same", dtype="float16")
    half(keras.Input((6, 6, 3)))
    assert not is_eligible(half)


@pytest.mark.parametrize(("precision", "rel"), [("float32", 1e-4), ("bfloat16", 0.02)])
def test_training_by_way_of_it_learns_the_same(precision: str, rel: float) -> None:
    import keras

    x = np.random.default_rng(0).normal(size=(16, 6, 6, 3)).astype(np.float32)
    y = np.eye(2, dtype=np.float32)[(x.mean(axis=(1, 2, 3)) > 0).astype(int)]
    losses = []
    for is_fast in (False, True):
        keras.utils.set_random_seed(0)
        with precision_scope(precision):
            model = keras.Sequential(
                [
                    keras.Input((6, 6, 3)),
                    keras.layers.Conv2D(8, 3, padding="same", activation="relu"),
                    keras.layers.GlobalAveragePooling2D(),
                    keras.layers.Dense(2, activation="softmax", dtype="float32"),
                ]
            )
        model.compile(keras.optimizers.SGD(0.5), "categorical_crossentropy")
        if is_fast:
            with fast_gradients(model) as count:
                assert count == 1
                losses.append([float(model.train_on_batch(x, y)) for _ in range(20)])
        else:
            losses.append([float(model.train_on_batch(x, y)) for _ in range(20)])
    assert losses[1][-1] < losses[1][0]
    assert losses[0] == pytest.approx(losses[1], rel=rel)


def test_a_convolution_inside_another_layer_is_left_to_keras() -> None:
    import keras

    class Around(keras.layers.Layer):  # type: ignore[misc]  # Keras is not annotated
        def __init__(self) -> None:
            super().__init__()
            self.inner = keras.layers.Conv2D(3, 3, padding="same")

        def build(self, shape: tuple[int | None, ...]) -> None:
            self.inner.build(shape)

        def call(self, x: object) -> object:
            return self.inner(x)

    photos = keras.Input((8, 8, 3))
    with fast_gradients(keras.Model(photos, Around()(photos))) as eligible:
        assert eligible == 0
