"""Frozen BatchNorm as part of the convolution before it: the same training."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from finetunekit.models.folded_norm import find_pairs, folded_norms, trace_forward


def network() -> Any:
    """Convolution, depthwise and biased convolution, each before a BatchNorm that is frozen; a shared and a trained one at the end."""
    import keras
    from keras import layers

    def norm(x: Any, *, is_trained: bool = False) -> Any:
        layer = layers.BatchNormalization(trainable=is_trained)
        made = layer(x)
        generator = np.random.default_rng(len(layer.weights))
        layer.set_weights([generator.uniform(0.5, 1.5, v.shape).astype(np.float32) for v in layer.weights])
        return layers.ReLU(max_value=6.0)(made)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = norm(layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs))
    x = norm(layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False, depth_multiplier=2)(x))
    x = norm(layers.Conv2D(6, 1, strides=1)(x))
    read_twice = layers.Conv2D(6, 1)(x)
    x = layers.Add()([norm(read_twice), read_twice])
    x = norm(layers.Conv2D(6, 1, activation="relu")(x))
    x = norm(layers.Conv2D(5, 3)(x), is_trained=True)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def train(model: Any, *, is_folded: bool) -> tuple[list[float], list[Any]]:
    import keras

    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(6, 8, 8, 3)).astype(np.float32), np.eye(3, dtype=np.float32)[np.arange(6) % 3]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, run_eagerly=True)
    with folded_norms(model) if is_folded else nullcontext():
        losses = [float(model.train_on_batch(x, y)) for _ in range(2)]
    return losses, [variable.numpy() for variable in model.weights]


def test_a_network_trains_as_it_does_without_folding() -> None:
    model, plain = network(), network()
    before = [variable.numpy() for variable in model.trainable_weights]
    ours, theirs = train(model, is_folded=True), train(plain, is_folded=False)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    for own, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-6)
    moved = [np.abs(v.numpy() - old).max() > 0 for v, old in zip(model.trainable_weights, before, strict=True)]
    assert all(moved)
    assert not any("call" in vars(layer) for layer in model.layers), "the layers are as they were"


def test_only_what_a_frozen_norm_alone_reads_is_folded() -> None:
    model = network()
    kinds = [(type(convolution).__name__, convolution.use_bias) for convolution, _ in find_pairs(model)]
    assert kinds == [("Conv2D", False), ("DepthwiseConv2D", False), ("Conv2D", True)]


def test_answers_are_those_of_the_network_and_follow_its_weights() -> None:
    import tensorflow as tf

    model = network()
    assert len(find_pairs(model, is_trained=False)) == 4, "at inference no statistics move"
    x = tf.constant(np.random.default_rng(2).normal(size=(2, 8, 8, 3)), tf.float32)
    traced = trace_forward(model, tf.TensorSpec(x.shape, tf.float32))
    for _ in range(2):
        np.testing.assert_allclose(traced(x), model(x, training=False), rtol=1e-5, atol=1e-6)
        model.layers[1].kernel.assign(model.layers[1].kernel * 2)
