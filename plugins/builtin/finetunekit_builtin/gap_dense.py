"""Head of the experiment: global average pooling, one hidden layer, logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from finetunekit import Features, Options, PluginError

if TYPE_CHECKING:
    import keras


class GapDenseOptions(Options):
    """Options of `gap_dense`."""

    units: int = Field(1024, ge=1, le=65_536, description="Units of the hidden layer.")
    activation: Literal["relu", "gelu", "silu", "tanh"] = Field("relu", description="Activation of the hidden layer.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Fraction of hidden units dropped while training.")


def build_gap_dense(options: GapDenseOptions, features: Features, num_classes: int) -> keras.KerasTensor:
    """Pool a feature map, project it to a hidden layer, then to class logits.

    Args:
        options: Size, activation and dropout of the hidden layer.
        features: Backbone output, `(batch, height, width, channels)`, float32 or bfloat16.
        num_classes: At least 2.

    Returns:
        Logits, `(batch, num_classes)`, float32 even under mixed precision; no softmax.

    Raises:
        PluginError: If `features.kind` is not `map`.

    Source: Lin et al. 2014, section 3.2 (global average pooling), arXiv:1312.4400; 1024 units as in the felidae4 experiment.
    """
    import keras

    if features.kind != "map":
        raise PluginError(
            f"head 'gap_dense' pools a feature map; this backbone gives {features.kind}. Choose another head."
        )
    x = keras.layers.GlobalAveragePooling2D(name="gap")(features.tensor)  # (batch, channels)
    x = keras.layers.Dense(options.units, activation=options.activation, name="hidden")(x)  # (batch, units)
    if options.dropout:
        x = keras.layers.Dropout(options.dropout, name="dropout")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
