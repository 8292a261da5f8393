"""Where the frozen prefix of a network ends, on its graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetunekit.models.feature_cache import Extractor
from finetunekit.models.frozen_prefix import find_cut
from finetunekit.models.prefix_check import check_cut


def freeze(model: Any, *names: str) -> Any:
    for name in names:
        model.get_layer(name).trainable = False
    return model


def conv(name: str) -> Any:
    import keras

    return keras.layers.Conv2D(4, 3, padding="same", activation="relu", name=name)


def chain(*layers: Any) -> Any:
    import keras

    inputs = x = keras.Input((8, 8, 3), name="input")
    for layer in layers:
        x = layer(x)
    x = keras.layers.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))


def batch(count: int = 6) -> Any:
    return np.random.default_rng(0).random((count, 8, 8, 3), dtype=np.float32)


def same_logits(model: Any) -> None:
    cut = find_cut(model)
    assert cut is not None
    assert check_cut(Extractor(cut), model, batch()) == ("bitwise", 0.0)


def test_a_chain_is_cut_before_its_first_trainable_layer() -> None:
    import keras

    model = freeze(chain(conv("a"), keras.layers.MaxPooling2D(name="pool"), conv("b"), conv("c")), "a", "b")
    cut = find_cut(model)
    assert cut is not None
    assert cut.boundary == ("b",)
    assert [layer.name for layer in cut.suffix.layers[1:]] == ["c", "gap", "logits"]
    same_logits(model)


def test_a_skip_connection_crosses_the_cut_as_a_second_tensor() -> None:
    import keras

    inputs = keras.Input((8, 8, 3), name="input")
    a = conv("a")(inputs)
    b = conv("b")(a)
    c = conv("c")(b)
    x = keras.layers.Add(name="add")([c, a])
    x = keras.layers.Dense(3, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    model = freeze(keras.Model(inputs, x), "a", "b")
    cut = find_cut(model)
    assert cut is not None
    assert set(cut.boundary) == {"a", "b"}
    same_logits(model)


def test_a_frozen_branch_behind_a_trainable_one_is_not_in_the_prefix() -> None:
    model = freeze(chain(conv("a"), conv("b"), conv("c")), "a", "c")
    cut = find_cut(model)
    assert cut is not None
    assert cut.boundary == ("a",)
    assert "c" not in cut.prefix_layers


def test_dropout_ends_the_prefix() -> None:
    import keras

    model = freeze(chain(conv("a"), keras.layers.Dropout(0.5, name="drop"), conv("b")), "a", "b")
    cut = find_cut(model)
    assert cut is not None
    assert cut.boundary == ("a",)


@pytest.mark.parametrize(("is_frozen", "boundary"), [(True, "b"), (False, "a")])
def test_batch_norm_is_in_the_prefix_only_while_it_is_frozen(is_frozen: bool, boundary: str) -> None:
    import keras

    model = freeze(chain(conv("a"), keras.layers.BatchNormalization(name="norm"), conv("b"), conv("c")), "a", "b")
    model.get_layer("norm").trainable = not is_frozen
    cut = find_cut(model)
    assert cut is not None
    assert cut.boundary == (boundary,)
    same_logits(model)


def test_nothing_frozen_gives_no_cut() -> None:
    assert find_cut(chain(conv("a"), conv("b"))) is None


def test_everything_but_the_head_frozen_is_cut_at_the_pooled_features() -> None:
    cut = find_cut(freeze(chain(conv("a"), conv("b")), "a", "b"))
    assert cut is not None
    assert cut.boundary == ("gap",)


@pytest.mark.slow
def test_a_resnet_is_cut_on_its_graph() -> None:
    import keras

    backbone = keras.applications.ResNet50V2(include_top=False, weights=None, input_shape=(32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.inputs[0], keras.layers.Dense(3)(x))
    for layer in backbone.layers[:100]:
        layer.trainable = False
    cut = find_cut(model)
    assert cut is not None
    assert len(cut.boundary) == 2
    x = np.random.default_rng(0).random((6, 32, 32, 3), dtype=np.float32)
    grade, difference = check_cut(Extractor(cut), model, x)
    assert grade in {"bitwise", "close"}, difference


def test_a_layer_that_hides_its_dice_is_refused_by_the_self_check() -> None:
    import keras
    import tensorflow as tf

    class Hidden(keras.layers.Layer):
        def call(self, x: Any, training: bool = False) -> Any:
            return x + tf.random.normal(tf.shape(x)) if training else x

    model = freeze(chain(conv("a"), Hidden(name="hidden"), conv("b")), "a")
    cut = find_cut(model)
    assert cut is not None
    assert check_cut(Extractor(cut), model, batch())[0] == "refused"
