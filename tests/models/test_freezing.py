"""Decisions applied to leaf layers, and checked."""

from __future__ import annotations

from typing import Any

import pytest

from finetunekit.errors import PluginError, RunError
from finetunekit.models.freezing import apply_decision, check_decision, describe_layers, leaf_layers
from finetunekit.types import Backbone


def vgg16() -> Any:
    import keras

    return keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))


def with_head(backbone: Any) -> Any:
    import keras

    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.inputs[0], keras.layers.Dense(4, name="logits")(x))


def decide(backbone: Any, frozen: int, **options: Any) -> dict[str, float]:
    layers = describe_layers(Backbone(backbone))
    decision = {layer.path: 0 if layer.index < frozen else 1 for layer in layers}
    return check_decision(decision, layers, "policy", train_batch_norm=options.get("train_batch_norm", False))


def test_layers_of_vgg16_count_as_in_the_experiment() -> None:
    layers = describe_layers(Backbone(vgg16(), blocks={"block4": ("block4_pool",)}))
    assert len(layers) == 19
    assert layers[0].class_name == "InputLayer"
    assert (layers[14].path, layers[14].block) == ("block4_pool", "block4")
    assert sum(layer.parameters for layer in layers) == 14_714_688


def test_first_15_freeze_blocks_1_to_4() -> None:
    backbone = vgg16()
    rates = apply_decision(with_head(backbone), backbone, decide(backbone, 15))
    assert set(rates) == {
        *(f"block5_conv{i}/{kind}" for i in (1, 2, 3) for kind in ("kernel", "bias")),
        "logits/kernel",
        "logits/bias",
    }


def test_a_later_stage_unfreezes_what_an_earlier_one_froze() -> None:
    backbone = vgg16()
    model = with_head(backbone)
    apply_decision(model, backbone, decide(backbone, 19))
    assert len(model.trainable_weights) == 2
    apply_decision(model, backbone, decide(backbone, 0))
    assert len(model.trainable_weights) == 28


def test_nested_models_are_frozen_leaf_by_leaf() -> None:
    import keras

    inner = keras.Sequential([keras.layers.Dense(2, name="a"), keras.layers.Dense(2, name="b")], name="inner")
    inputs = keras.Input((3,))
    backbone = keras.Model(inputs, keras.layers.Dense(2, name="last")(inner(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(4, name="logits")(backbone.output))
    layers = describe_layers(Backbone(backbone, "vector"))
    assert [layer.path for layer in layers][-3:] == ["inner/a", "inner/b", "last"]
    decision = check_decision({"inner/a": 0.0}, layers, "policy", train_batch_norm=False)
    rates = apply_decision(model, backbone, decision)
    frozen = {v.path for v in model.weights} - set(rates)
    assert {path.split("/")[-2] for path in frozen} == {"a"}


def test_a_composite_s_own_weights_follow_its_own_decision() -> None:
    import keras

    class Composite(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="composite")
            self.inner = keras.layers.Dense(3, name="inner")

        def build(self, shape: Any) -> None:
            self.scale = self.add_weight(shape=(3,), name="scale")
            self.inner.build(shape)

        def call(self, x: Any) -> Any:
            return self.inner(x) * self.scale

    inputs = keras.Input((3,))
    backbone = keras.Model(inputs, Composite()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(backbone.output))
    layers = describe_layers(Backbone(backbone, "vector"))
    assert [layer.path for layer in layers][1:] == ["composite", "composite/inner"]
    for frozen, kept in (("composite", "inner"), ("composite/inner", "scale")):
        decision = check_decision({frozen: 0.0}, layers, "policy", train_batch_norm=False)
        rates = apply_decision(model, backbone, decision)
        trained = [v.name for v in backbone.trainable_weights if v.path in rates]
        assert trained == (["kernel", "bias"] if kept == "inner" else ["scale"])


def test_batch_norm_is_frozen_unless_asked_for() -> None:
    import keras

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(2, 3, name="conv")(inputs))
    backbone = keras.Model(inputs, x)
    model = with_head(backbone)
    assert "norm/gamma" not in apply_decision(model, backbone, decide(backbone, 0))
    assert backbone.get_layer("norm").trainable is False
    assert "norm/gamma" in apply_decision(model, backbone, decide(backbone, 0, train_batch_norm=True))


def test_rates_between_zero_and_one_are_kept() -> None:
    backbone = vgg16()
    layers = describe_layers(Backbone(backbone))
    decision = check_decision({"block1_conv1": 0.25}, layers, "policy", train_batch_norm=False)
    rates = apply_decision(with_head(backbone), backbone, decision)
    assert (rates["block1_conv1/kernel"], rates["block1_conv2/kernel"], rates["logits/bias"]) == (0.25, 1.0, 1.0)


@pytest.mark.parametrize(
    ("decision", "match"),
    [
        ({"block9": 0}, "policy decides on 'block9', which the backbone does not have"),
        ({"block1_conv1": -1}, "not a finite number >= 0. Received: -1"),
        ({"block1_conv1": float("nan")}, "not a finite number"),
        ({"block1_conv1": True}, "not a finite number"),
        (["block1_conv1"], "must return a mapping"),
    ],
)
def test_a_decision_that_breaks_the_contract_is_blamed(decision: Any, match: str) -> None:
    layers = describe_layers(Backbone(vgg16()))
    with pytest.raises(PluginError, match=match):
        check_decision(decision, layers, "policy", train_batch_norm=False)


def test_nothing_trainable_is_an_error() -> None:
    backbone = vgg16()
    with pytest.raises(RunError, match="nothing would train"):
        apply_decision(backbone, backbone, decide(backbone, 19))


def test_leaf_layers_follow_the_graph() -> None:
    backbone = vgg16()
    assert [layer.name for _, layer in leaf_layers(backbone)] == [layer.name for layer in backbone.layers]


def test_where_lora_was_added_only_what_it_added_trains() -> None:
    import keras
    import numpy as np

    from finetunekit.models.weights import fit_arrays

    pixels = keras.Input((4, 4, 3))
    hidden = keras.layers.Dense(6, name="query")
    plain = keras.layers.Dense(6, name="other")
    backbone = keras.Model(pixels, plain(hidden(pixels)))
    arrays = {name: np.ones(v.shape, np.float32) for name, v in zip(
        ("query/kernel", "query/bias", "other/kernel", "other/bias"), backbone.weights, strict=True
    )}  # fmt: skip
    fit_arrays(backbone, arrays, origin="test")
    before = backbone(np.ones((1, 4, 4, 3), np.float32)).numpy()
    hidden.enable_lora(2)
    fit_arrays(backbone, arrays, origin="test")
    np.testing.assert_array_equal(backbone(np.ones((1, 4, 4, 3), np.float32)), before, "it begins as nothing")
    for _ in range(2):  # a later stage sets every flag again
        rates = apply_decision(
            with_head(backbone), backbone, {layer.path: 1.0 for layer in describe_layers(Backbone(backbone))}
        )
        assert {name for name in rates if name.startswith("query")} == {"query/lora_kernel_a", "query/lora_kernel_b"}
        assert {"other/kernel", "other/bias"} <= set(rates)
    frozen = {layer.path: 0.0 for layer in describe_layers(Backbone(backbone))}
    assert not [name for name in apply_decision(with_head(backbone), backbone, frozen) if "lora" in name]
