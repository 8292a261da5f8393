"""A head with a layer of its own: channels that matter for a photo are let through, the others are damped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetunekit import Features, Options, PluginError, hookimpl
from finetunekit.hookspecs import Register

if TYPE_CHECKING:
    import keras


def build_gated(options: Options, features: Features, num_classes: int) -> keras.KerasTensor:
    """Pool a feature map, gate its channels, and project them to class logits.

    Args:
        options: None.
        features: Backbone output, `(batch, height, width, channels)`, float32 or bfloat16.
        num_classes: At least 2.

    Returns:
        Logits, `(batch, num_classes)`, float32.

    Raises:
        PluginError: If `features.kind` is not `map`.
    """
    import keras

    if features.kind != "map":
        raise PluginError(
            f"head 'gated' pools a feature map; this backbone gives {features.kind}. Choose another head."
        )

    class Gate(keras.layers.Layer):
        """Multiplies each channel by a number between 0 and 1 that depends on all of them."""

        def build(self, input_shape: tuple[int | None, int]) -> None:
            self.kernel = self.add_weight(shape=(input_shape[1], input_shape[1]), name="kernel")
            self.bias = self.add_weight(shape=(input_shape[1],), initializer="zeros", name="bias")

        def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
            return x * keras.ops.sigmoid(x @ self.kernel + self.bias)

    x = keras.layers.GlobalAveragePooling2D(name="gap")(features.tensor)  # (batch, channels)
    x = Gate(name="gate")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)


@hookimpl
def register_heads(register: Register) -> None:
    """One head."""
    register("gated", build_gated)
