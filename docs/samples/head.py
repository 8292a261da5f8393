"""A linear head: pooling and one layer."""

from finetunekit import Features, Options, PluginError, hookimpl


def build_linear(options: Options, features: Features, num_classes: int):  # noqa: ANN201
    """Feature map → logits, float32, no softmax."""
    import keras

    if features.kind != "map":
        raise PluginError("head 'gap_linear' pools feature maps. Choose another head.")
    pooled = keras.layers.GlobalAveragePooling2D()(features.tensor)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(pooled)


@hookimpl
def register_heads(register):  # noqa: ANN001, ANN201
    """Offer it as `gap_linear`."""
    register("gap_linear", build_linear)
