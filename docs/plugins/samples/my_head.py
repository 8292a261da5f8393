"""A head of one layer: pooling, dropout, logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Features, Options, PluginError, hookimpl
from finetunekit.hookspecs import Register

if TYPE_CHECKING:
    import keras


class LinearOptions(Options):
    """Options of `gap_linear`."""

    dropout: float = Field(0.0, ge=0, lt=1, description="Fraction of pooled features dropped during training.")


def build_linear(options: LinearOptions, features: Features, num_classes: int) -> keras.KerasTensor:
    """Pool a feature map and project it to class logits.

    Args:
        options: How much is dropped.
        features: Backbone output, `(batch, height, width, channels)`, float32 or bfloat16.
        num_classes: At least 2.

    Returns:
        Logits, `(batch, num_classes)`, float32 even under mixed precision; no softmax.

    Raises:
        PluginError: If `features.kind` is not `map`.
    """
    import keras

    if features.kind != "map":
        raise PluginError(
            f"head 'gap_linear' pools a feature map; this backbone gives {features.kind}. Choose another head."
        )
    x = keras.layers.GlobalAveragePooling2D(name="gap")(features.tensor)  # (batch, channels)
    x = keras.layers.Dropout(options.dropout, name="dropout")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)


@hookimpl
def register_heads(register: Register) -> None:
    """One head."""
    register("gap_linear", build_linear, LinearOptions)
