"""Tiny networks around the component under check, built by the engine's own function, and how networks are compared."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.plan import Chosen, PlannedNetwork
from finetunekit.models.classifier import Classifier, build_classifier
from finetunekit.models.saved_network import load_network, save_network
from finetunekit.testing import tiny_plugin
from finetunekit.testing.contract import Subject, choose
from finetunekit.types import Backbone, Options, PixelContract

if TYPE_CHECKING:
    import keras

Kind = Literal["map", "tokens", "vector"]
KINDS: tuple[Kind, ...] = ("map", "tokens", "vector")
PRECISIONS = ("float32", "bfloat16")
SIZE_PX = 8
PIXELS = PixelContract(scale=1 / 255)


def tiny_backbone(kind: Kind) -> Chosen:
    """The backbone of tiny runs, with that kind of features."""
    options = tiny_plugin.TinyOptions(kind=kind)
    return choose("backbone", tiny_plugin.build_tiny, options, tiny_plugin.TINY_SPEC)


def tiny_head() -> Chosen:
    """The head of tiny runs; it takes features of any kind."""
    return choose("head", tiny_plugin.build_linear, Options())


def build_network(backbone: Chosen, head: Chosen, size_px: int, num_classes: int, precision: str) -> Classifier:
    """Build a network as a run does, with the run's own checks of what the builders return."""
    return build_classifier(PlannedNetwork(backbone, head, size_px, "contract"), num_classes, precision)


def outputs_of(model: keras.Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a network says at inference, as float32."""
    import tensorflow as tf

    return np.asarray(tf.cast(model(x, training=False), tf.float32))


def is_close(first: NDArray[np.float32], second: NDArray[np.float32], tolerance: float = 1e-4) -> bool:
    """Whether two outputs differ by at most that part of the largest value: what batch sizes and graphs change by rounding."""
    scale = max(float(np.abs(first).max()), 1e-6)
    return first.shape == second.shape and float(np.abs(first - second).max()) <= tolerance * scale


def check_inference(subject: Subject, model: keras.Model, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Check that outputs are finite, the same twice, and that a photo's do not depend on the others of its batch.

    Returns:
        The outputs.

    Raises:
        ContractError: If it cannot be run; what does not hold is noted.
    """
    with subject.during("running the network"):
        first, second, alone = outputs_of(model, x), outputs_of(model, x), outputs_of(model, x[:1])
    subject.expect(np.isfinite(first).all(), "its output is not finite for ordinary photos.")
    words = "draws random numbers at inference; dropout and noise belong behind training=True."
    subject.expect(np.array_equal(first, second, equal_nan=True), words)
    words = "what it says of a photo depends on the other photos of the batch; each must be answered by itself."
    subject.expect(not np.isfinite(first).all() or is_close(first[:1], alone), words)
    return first


def check_saved(
    subject: Subject, trained: keras.Model, again: keras.Model, x: NDArray[np.float32], contract: PixelContract = PIXELS
) -> None:
    """Check that a network that is built again takes the weights of a trained one, and then says the same, as `predict` needs it.

    Args:
        subject: Whose network it is.
        trained: Any model of photos.
        again: What the same builder made once more.
        x: Input to compare them on.
        contract: What they are fed by.

    Raises:
        ContractError: If weights cannot be saved or do not fit, or it says something else afterwards.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        subject.during("saving it, building it again and reading the weights"),
    ):
        path = Path(folder) / "model.npz"
        save_network(path, trained, contract, "float32")
        load_network(path, again, contract, "float32")
        before, after = outputs_of(trained, x), outputs_of(again, x)
    words = "says something else when it is built again with the same weights; what it keeps besides weights must be the same each time."
    subject.require(is_close(before, after, 1e-6), words)


def policy_backbones() -> Mapping[str, Backbone]:
    """Shape in words → a backbone of that shape, for policies: a chain, blocks, a model in a model, BatchNorm."""
    return {
        "a flat chain": Backbone(_model("chain", [_conv("conv1"), _conv("conv2"), _conv("conv3"), _conv("conv4")])),
        "named blocks": _blocks(),
        "a model inside a model": _nested(),
        "BatchNorm": _batch_norm(),
    }


def _conv(name: str) -> keras.Layer:
    import keras

    return keras.layers.Conv2D(4, 3, padding="same", name=name)


def _model(name: str, layers: Sequence[keras.Layer]) -> keras.Model:
    import keras

    inputs = x = keras.Input((SIZE_PX, SIZE_PX, 3), name="input")
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name=name)


def _blocks() -> Backbone:
    import keras

    blocks = {f"block{b}": tuple(f"block{b}_{part}" for part in ("conv1", "conv2", "pool")) for b in (1, 2, 3)}
    layers: list[Any] = []
    for first, second, pool in blocks.values():
        layers += [_conv(first), _conv(second), keras.layers.MaxPooling2D(name=pool)]
    return Backbone(_model("blocks", layers), blocks=blocks)


def _nested() -> Backbone:
    inner = _model("inner", [_conv("conv1")])
    # the inner model takes three channels, so it stands first
    model = _model("outer", [inner, _conv("conv2"), _conv("conv3")])
    return Backbone(model, blocks={"stem": ("inner/conv1",), "body": ("conv2", "conv3")})


def _batch_norm() -> Backbone:
    import keras

    layers = []
    for number in (1, 2):
        layers += [_conv(f"conv{number}"), keras.layers.BatchNormalization(name=f"norm{number}")]
    blocks = {f"block{number}": (f"conv{number}", f"norm{number}") for number in (1, 2)}
    return Backbone(_model("batch_norm", layers), blocks=blocks)
