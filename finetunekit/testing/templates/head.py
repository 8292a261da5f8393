"""Head `my_component`: mean over positions, dropout, logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from finetunekit import Features, Options, hookimpl
from finetunekit.hookspecs import Register

if TYPE_CHECKING:
    import keras


class MyComponentOptions(Options):
    """Options of `my_component`."""

    dropout: float = Field(0.2, ge=0, lt=1, description="Fraction of pooled features dropped during training.")


def build_my_component(options: MyComponentOptions, features: Features, num_classes: int) -> keras.KerasTensor:
    """Pool features of any kind and project them to class logits.

    Args:
        options: How much is dropped.
        features: Backbone output: map `(batch, height, width, channels)`, tokens `(batch, tokens, channels)` or
            vector `(batch, channels)`, float32 or bfloat16. Raise `finetunekit.PluginError` for a kind you do not take.
        num_classes: At least 2.

    Returns:
        Logits, `(batch, num_classes)`, float32 even under mixed precision; no softmax.
    """
    import keras

    x = features.tensor
    if features.kind == "map":
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (batch, channels)
    elif features.kind == "tokens":
        x = keras.layers.GlobalAveragePooling1D(name="pool")(x)  # (batch, channels)
    x = keras.layers.Dropout(options.dropout, name="dropout")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)


@hookimpl
def register_heads(register: Register) -> None:
    """One head."""
    register("my_component", build_my_component, MyComponentOptions)
