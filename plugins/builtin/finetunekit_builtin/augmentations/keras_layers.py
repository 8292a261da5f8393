"""Any stack of Keras' preprocessing layers: an augmentation that is not pure, since their draws follow no key of a photo."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from pydantic import Field

from finetunekit import Augmentation, ConfigError, Options, did_you_mean, draw_uniform

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

#: Layers that take photos in [0, 255] and give photos of the same size. Nothing else can be named.
ALLOWED = (
    "AugMix",
    "AutoContrast",
    "Equalization",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "RandAugment",
    "Solarization",
)
#: Arguments that are this plugin's to give.
_RESERVED = ("self", "kwargs", "name", "dtype", "data_format", "seed", "value_range")


class KerasLayer(Options):
    """One layer of `keras_layers`."""

    layer: str = Field(min_length=1, max_length=60, description="Class in keras.layers, such as RandomRotation.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Arguments of that class, with Keras' names.")


class KerasLayersOptions(Options):
    """Options of `keras_layers`."""

    layers: tuple[KerasLayer, ...] = Field(
        (KerasLayer(layer="RandomFlip", arguments={"mode": "horizontal"}),),
        min_length=1,
        max_length=20,
        description="Layers, applied in order to whole batches.",
    )


def build_keras_layers(options: KerasLayersOptions) -> tuple[Augmentation, ...]:
    """Apply Keras' own layers.

    Their random numbers are seeded from the first key of the batch, so that a run repeats on one machine with one version of Keras; what
    becomes of a photo still depends on the batch that it is in.

    Raises:
        ConfigError: If a layer is not one of the allowed ones; when photos are first augmented, if this Keras does not have it or does
            not take its arguments.

    Source: the layers' own documentation, https://keras.io/api/layers/preprocessing_layers/image_augmentation/.
    """
    for number, layer in enumerate(options.layers):
        if layer.layer not in ALLOWED:
            hint = did_you_mean(layer.layer, ALLOWED)
            allowed = ", ".join(ALLOWED)
            raise ConfigError(
                f"keras_layers: layers[{number}]: '{layer.layer}' is not allowed.{hint} Allowed: {allowed}."
            )
    return (Augmentation(apply=_Stack(options), is_deterministic=False),)


class _Stack:
    """The layers, made when photos are first augmented: a plan asks for the steps and needs no Keras."""

    def __init__(self, options: KerasLayersOptions) -> None:
        self.options = options
        self.layers: tuple[keras.Layer, ...] = ()

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Images `(batch, height, width, 3)` float32 in [0, 255]."""
        import tensorflow as tf

        if not self.layers:
            with tf.init_scope():  # their random state outlives the trace
                self.layers = tuple(_build_layer(n, layer) for n, layer in enumerate(self.options.layers))
        generators = [found for layer in self.layers for found in _generators(layer)]
        unit = draw_uniform(keys[:1], max(2 * len(generators), 1))[0]
        for number, generator in enumerate(generators):
            seeds = unit[2 * number : 2 * number + 2] * 2.0**32
            generator.state.assign(tf.cast(tf.cast(seeds, tf.int64), generator.state.dtype))
        changed = images
        for layer in self.layers:
            changed = layer(changed, training=True)
        return tf.ensure_shape(tf.clip_by_value(tf.cast(changed, tf.float32), 0.0, 255.0), images.shape), labels


def _build_layer(number: int, asked: KerasLayer) -> keras.Layer:
    import keras

    where = f"keras_layers: layers[{number}]"
    kind = getattr(keras.layers, asked.layer, None)
    if kind is None:
        raise ConfigError(
            f"{where}: Keras {keras.__version__} has no '{asked.layer}'. Update Keras or name another layer."
        )
    taken = inspect.signature(kind.__init__).parameters
    allowed = [name for name in taken if name not in _RESERVED]
    for name in asked.arguments:
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            raise ConfigError(f"{where}: {asked.layer} does not take '{name}'.{hint} Allowed: {', '.join(allowed)}.")
    own = {"value_range": (0, 255)} if "value_range" in taken else {}
    try:
        return kind(**asked.arguments, **own, dtype="float32")
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"{where}: {asked.layer}: {' '.join(str(exc).split())[:200]}") from exc


def _generators(layer: keras.Layer) -> list[Any]:
    """Every random state that the layer holds, those of layers inside it included."""
    return [generator for part in layer._flatten_layers() for generator in part._seed_generators]
