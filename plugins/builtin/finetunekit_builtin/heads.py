"""Heads for features of any kind: one linear layer, hidden layers, attention pooling."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from finetunekit import Features, Options, PluginError

if TYPE_CHECKING:
    import keras

_MOST_WEIGHTS = 2**28
"""Between hidden layers, 1 GiB: a run of a stranger is loaded by what it says of itself."""
_Tokens = Literal["mean", "first"]
_TOKENS = (
    "How tokens become one vector: by their mean, or as the first token, which is the class token if there is one."
)


class LinearOptions(Options):
    """Options of `linear`."""

    tokens: _Tokens = Field("mean", description=_TOKENS)
    dropout: float = Field(0.0, ge=0, lt=1, description="Fraction of pooled features dropped during training.")
    unit_length: bool = Field(
        False,
        description="Divide each photo's pooled features by their length, times the square root of their number: what kind of features a "
        "photo has counts, and not how strong they are.",
    )


class MlpOptions(Options):
    """Options of `mlp`."""

    hidden: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        (256,), min_length=1, max_length=8, description="Units of each hidden layer, first to last."
    )
    activation: Literal["relu", "gelu", "silu", "tanh"] = Field("relu", description="Activation of hidden layers.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Fraction of each hidden layer's units dropped while training.")
    tokens: _Tokens = Field("mean", description=_TOKENS)

    @field_validator("hidden")
    @classmethod
    def _check_size(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        if (weights := sum(a * b for a, b in itertools.pairwise(hidden))) > _MOST_WEIGHTS:
            raise ValueError(f"{weights:,} weights between hidden layers are more than {_MOST_WEIGHTS:,}")
        return hidden


class AttentionPoolOptions(Options):
    """Options of `attention_pool`."""

    heads: int = Field(
        4, ge=1, le=64, description="Number of learned queries; each weights the positions in its own way."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Fraction of pooled features dropped during training.")


def build_linear(options: LinearOptions, features: Features, num_classes: int) -> keras.KerasTensor:
    """Pool features to one vector and project it to class logits: a linear probe where the backbone is frozen.

    Args:
        options: Dropout as a fraction of features in [0, 1), how tokens are pooled, and whether features are brought to one length.
        features: Backbone output of any kind, float32 or bfloat16: a map is averaged, a vector taken as it is.
        num_classes: At least 2.

    Returns:
        Logits, `(batch, num_classes)`, float32 even under mixed precision; no softmax.

    Source: Lin et al. 2014, section 3.2 (global average pooling), arXiv:1312.4400; the mean of tokens or the class token as in
    Dosovitskiy et al. 2021, appendix D.3, arXiv:2010.11929; features of length one as in Perronnin et al. 2010, section 3.1, ECCV.
    """
    pooled = _pooled(features, options.tokens)
    return _logits(_of_length_one(pooled) if options.unit_length else pooled, options.dropout, num_classes)


def build_mlp(options: MlpOptions, features: Features, num_classes: int) -> keras.KerasTensor:
    """Pool features to one vector, then hidden layers, then class logits.

    Args:
        options: Sizes, activation and dropout of the hidden layers, and how tokens are pooled.
        features: Backbone output of any kind, float32 or bfloat16.
        num_classes: At least 2.

    Returns:
        Logits, `(batch, num_classes)`, float32 even under mixed precision; no softmax.

    Source: dropout after each hidden layer as in Srivastava et al. 2014, JMLR 15, pages 1929–1958.
    """
    import keras

    x = _pooled(features, options.tokens)
    for number, units in enumerate(options.hidden, start=1):
        x = keras.layers.Dense(units, activation=options.activation, name=f"hidden{number}")(x)  # (batch, units)
        if options.dropout:
            x = keras.layers.Dropout(options.dropout, name=f"dropout{number}")(x)
    return _logits(x, 0.0, num_classes)


def build_attention_pool(options: AttentionPoolOptions, features: Features, num_classes: int) -> keras.KerasTensor:
    """Let learned queries weigh the positions of a map or the tokens, and project the weighted means to class logits.

    A learned query that meets linear keys is one vector, so a query is a unit of a Dense layer here; linear values are part of the last
    Dense. Keys are normalised features. Queries start at zero: at first every position counts alike, as in global average pooling.

    Args:
        options: Number of queries, and dropout as a fraction of features in [0, 1).
        features: Backbone output, a map or tokens, float32 or bfloat16.
        num_classes: At least 2.

    Returns:
        Logits, `(batch, num_classes)`, float32 even under mixed precision; no softmax.

    Raises:
        PluginError: If `features.kind` is `vector`, which has no positions left.

    Source: Lee et al. 2019, section 3.2 (pooling by multihead attention), arXiv:1810.00825; as a head on image features, Yu et al. 2022,
    section 3.2 (attentional poolers), arXiv:2205.01917.
    """
    import keras

    if features.kind == "vector":
        raise PluginError(
            "head 'attention_pool' weighs positions; this backbone gives a vector. Choose 'linear' or 'mlp'."
        )
    x = features.tensor
    if features.kind == "map":
        x = keras.layers.Reshape((-1, x.shape[-1]), name="positions")(x)  # (batch, positions, channels)
    keys = keras.layers.LayerNormalization(name="keys")(x)
    query = keras.layers.Dense(options.heads, use_bias=False, kernel_initializer="zeros", name="queries")
    weights = keras.layers.Softmax(axis=1, dtype="float32", name="attention")(query(keys))  # (batch, positions, heads)
    pooled = keras.layers.Dot(axes=1, name="weighted")([weights, x])  # (batch, heads, channels)
    return _logits(keras.layers.Flatten(name="pooled")(pooled), options.dropout, num_classes)


def _pooled(features: Features, tokens: _Tokens) -> Any:
    """One vector a photo, `(batch, channels)`."""
    import keras

    if features.kind == "map":
        return keras.layers.GlobalAveragePooling2D(name="gap")(features.tensor)
    if features.kind == "tokens":
        is_mean = tokens == "mean"
        return keras.layers.GlobalAveragePooling1D(name="gap")(features.tensor) if is_mean else features.tensor[:, 0]
    return features.tensor


def _of_length_one(x: Any) -> Any:
    """Vectors divided by their length, times the square root of their number of channels, so that a channel's size stays near 1."""
    import keras

    x = keras.layers.UnitNormalization(dtype="float32", name="unit_length")(x)
    return keras.layers.Rescaling(x.shape[-1] ** 0.5, dtype="float32", name="channel_scale")(x)


def _logits(x: Any, dropout: float, num_classes: int) -> keras.KerasTensor:
    import keras

    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
