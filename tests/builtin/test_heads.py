"""The built-in heads: their contract on every kind of features, and what each computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydantic
import pytest
from finetunekit_builtin.heads import (
    AttentionPoolOptions,
    LinearOptions,
    MlpOptions,
    build_attention_pool,
    build_linear,
    build_mlp,
)

from finetunekit import Features, PluginError
from finetunekit.testing import check_head

ALL = ("map", "tokens", "vector")


@pytest.mark.parametrize(
    ("build", "options", "kinds"),
    [
        (build_linear, LinearOptions(dropout=0.3), ALL),
        (build_linear, LinearOptions(tokens="first"), ALL),
        (build_linear, LinearOptions(unit_length=True), ALL),
        (build_mlp, MlpOptions(hidden=(5, 4), dropout=0.2, activation="gelu"), ALL),
        (build_attention_pool, AttentionPoolOptions(heads=3, dropout=0.2), ("map", "tokens")),
    ],
)
def test_heads_keep_their_contract(build: Any, options: Any, kinds: Any) -> None:
    check_head(build, options, kinds=kinds)


def model_of(build: Any, options: Any, shape: tuple[int, ...], kind: Any) -> Any:
    import keras

    inputs = keras.Input(shape)
    return keras.Model(inputs, build(options, Features(inputs, kind), 3))


def weights_of(model: Any, name: str) -> Any:
    return [np.asarray(weight) for weight in model.get_layer(name).weights]


def test_linear_is_the_mean_times_a_matrix() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    model = model_of(build_linear, LinearOptions(), x.shape[1:], "map")
    kernel, bias = weights_of(model, "logits")
    np.testing.assert_allclose(model(x), x.mean(axis=(1, 2)) @ kernel + bias, atol=1e-5)


def test_features_of_length_one_do_not_tell_how_strong_they_were() -> None:
    x = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    model = model_of(build_linear, LinearOptions(unit_length=True), x.shape[1:], "vector")
    kernel, bias = weights_of(model, "logits")
    expected = x / np.linalg.norm(x, axis=1, keepdims=True) * 5**0.5 @ kernel + bias
    np.testing.assert_allclose(model(x), expected, atol=1e-5)
    np.testing.assert_allclose(model(3 * x), expected, atol=1e-5)


def test_first_token_alone_is_read_where_asked_for() -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    model = model_of(build_linear, LinearOptions(tokens="first"), x.shape[1:], "tokens")
    changed = x.copy()
    changed[:, 1:] += 1
    np.testing.assert_array_equal(model(x), model(changed))
    kernel, bias = weights_of(model, "logits")
    np.testing.assert_allclose(model(x), x[:, 0] @ kernel + bias, atol=1e-5)


def test_hidden_layers_of_mlp_stand_in_order() -> None:
    model = model_of(build_mlp, MlpOptions(hidden=(7, 4), dropout=0.5), (5,), "vector")
    assert [layer.name for layer in model.layers[1:]] == ["hidden1", "dropout1", "hidden2", "dropout2", "logits"]
    assert [weights_of(model, f"hidden{i}")[0].shape for i in (1, 2)] == [(5, 7), (7, 4)]


def test_attention_starts_as_average_pooling_and_then_weighs() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 4)).astype(np.float32)
    model = model_of(build_attention_pool, AttentionPoolOptions(heads=2), x.shape[1:], "map")
    kernel, bias = weights_of(model, "logits")
    mean = x.mean(axis=(1, 2))
    np.testing.assert_allclose(model(x), np.concatenate([mean, mean], axis=1) @ kernel + bias, atol=1e-5)
    queries = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    model.get_layer("queries").set_weights([queries])
    tokens = x.reshape(2, 9, 4)
    keys = (tokens - tokens.mean(-1, keepdims=True)) / np.sqrt(tokens.var(-1, keepdims=True) + 1e-3)
    scores = np.exp(keys @ queries)
    pooled = np.einsum("bph,bpc->bhc", scores / scores.sum(axis=1, keepdims=True), tokens)
    np.testing.assert_allclose(model(x), pooled.reshape(2, -1) @ kernel + bias, atol=1e-5)


def test_attention_refuses_features_without_positions() -> None:
    with pytest.raises(PluginError, match=r"gives a vector\. Choose 'linear' or 'mlp'"):
        model_of(build_attention_pool, AttentionPoolOptions(), (4,), "vector")


def test_mlp_without_hidden_layers_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError, match="at least 1 item"):
        MlpOptions(hidden=())
