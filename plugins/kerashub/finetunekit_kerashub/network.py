"""From a preset of KerasHub to a Keras model of pixels in [0, 255], for any of its image networks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

import keras
import keras_hub

from finetunekit import Backbone, PluginError, count_names_anew, leaf_layers

Kind = Literal["map", "tokens", "vector"]
KINDS: dict[int, Kind] = {4: "map", 3: "tokens", 2: "vector"}
#: Networks of images and text keep the former under one of these names.
IMAGE_PARTS = ("vision_encoder", "image_encoder")
NAME = "preset"
#: Layers that give queries and values, in KerasHub's networks.
ATTENTION = ("query", "value", "query_dense", "value_dense", "query_proj", "value_proj", "q_proj", "v_proj")
#: A numbered part of a network: `layers_3`, `encoder_block_1`, `stack0_block2`, `stage_2`.
_NUMBERED = re.compile(r"(layer|block|stack|stage)s?_?(\d+)")


def build_preset(preset: str, features: str, size_px: int, *, load_weights: bool, lora_rank: int = 0) -> Backbone:
    """Build the image part of a preset behind its own rescaling.

    Args:
        preset: Name, handle or folder.
        features: `spatial` or `pooled`.
        size_px: Side of the square input.
        load_weights: Whether KerasHub loads its pretrained weights; the engine loads weights itself and wants none.
        lora_rank: Of the matrices added to the attention layers; 0: none are added.

    Returns:
        Model `(batch, size_px, size_px, 3)` RGB in [0, 255] → features, what they are, and the network's numbered parts as blocks.

    Raises:
        PluginError: If the preset cannot be had, is not an image network, or does not take this size.
    """
    scale, offset = rescaling_of(preset)
    network = _image_part(_load(preset, size_px, load_weights=load_weights), preset, size_px)
    inner = _with_output(network, features, preset)
    pixels = keras.Input((size_px, size_px, 3), name="input")
    # float32 whatever the policy: bfloat16 cannot tell 254 from 255
    x = keras.layers.Rescaling(scale, offset, dtype="float32", name="preset_pixels")(pixels)
    output = inner(dict.fromkeys(inner.input, x) if isinstance(inner.input, dict) else x)
    model = keras.Model(pixels, output, name="kerashub")
    if lora_rank:
        _add_lora(model, preset, lora_rank)
    return Backbone(model=model, kind=KINDS[len(output.shape)], blocks=_blocks(path for path, _ in leaf_layers(model)))


def _add_lora(model: keras.Model, preset: str, rank: int) -> None:
    """Add low-rank matrices to the queries and values of attention, which start as nothing.

    Raises:
        PluginError: If the network has no attention.

    Source: Hu et al. 2021, "LoRA", arXiv:2106.09685, section 4.2 and table 5 (queries and values).
    """
    adapted = [layer for path, layer in leaf_layers(model) if path.rsplit("/", 1)[-1] in ATTENTION]
    if not adapted:
        raise PluginError(
            f"kerashub: preset '{preset}' has no attention that LoRA could be added to; leave out lora_rank."
        )
    for layer in adapted:
        layer.enable_lora(rank)


def rescaling_of(preset: str) -> tuple[Any, Any]:
    """Scale and offset, each a number or three, that the preset applies to pixels in [0, 255].

    Raises:
        PluginError: If the preset says nothing of pixels.

    Source: keras_hub.layers.ImageConverter.
    """
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except Exception as exc:  # KerasHub's, Kaggle's and Hugging Face's own, of many kinds
        raise _unavailable(preset, "pixels", exc) from exc
    return (1.0 if converter.scale is None else converter.scale, 0.0 if converter.offset is None else converter.offset)


def load_description(preset: str) -> tuple[Any, Any]:
    """A preset's network with Keras' initial weights, and what it does to pixels.

    Raises:
        PluginError: If the preset cannot be had.
    """
    try:
        network = keras_hub.models.Backbone.from_preset(preset, load_weights=False)
        return network, keras_hub.layers.ImageConverter.from_preset(preset)
    except Exception as exc:  # KerasHub's, Kaggle's and Hugging Face's own, of many kinds
        raise _unavailable(preset, "description", exc) from exc


def _load(preset: str, size_px: int, *, load_weights: bool) -> Any:
    """The preset's network; for this size, unless it is one of images and text, whose size is fixed."""
    try:
        cls = keras_hub.models.Backbone
        try:
            return cls.from_preset(preset, load_weights=load_weights, name=NAME, image_shape=(size_px, size_px, 3))
        except TypeError:  # it takes no image_shape
            return cls.from_preset(preset, load_weights=load_weights, name=NAME)
    except Exception as exc:
        raise _unavailable(preset, "network", exc) from exc


def _unavailable(preset: str, what: str, exc: Exception) -> PluginError:
    reason = " ".join(str(exc).split())[:200]
    return PluginError(f"kerashub: the {what} of preset '{preset}' cannot be had: {type(exc).__name__}: {reason}")


def _image_part(network: Any, preset: str, size_px: int) -> Any:
    """The network itself, or its part for images.

    Raises:
        PluginError: If it reads no image, or only images of another size.
    """
    part = next((getattr(network, name) for name in IMAGE_PARTS if hasattr(network, name)), network)
    shapes = [tuple(tensor.shape) for tensor in part.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] != 3:
        raise PluginError(f"kerashub: preset '{preset}' is not an image network: its inputs are {shapes}.")
    height = shapes[0][1]
    if height not in (None, size_px):
        raise PluginError(f"kerashub: preset '{preset}' takes {height} px only; pixels.size_px is {size_px}.")
    return part


def _with_output(network: Any, features: str, preset: str) -> keras.Model:
    """The network up to its last map or tokens, or whole.

    Raises:
        PluginError: If it has no such output.
    """
    if features == "pooled":
        output = network.output
        if not isinstance(output, keras.KerasTensor) or len(output.shape) != 2:
            raise PluginError(f"kerashub: preset '{preset}' pools nothing itself; set backbone.features: spatial.")
    else:
        tensors = (tensor for operation in reversed(network.operations) for tensor in _outputs(operation))
        output = next((tensor for tensor in tensors if len(tensor.shape) in (3, 4)), None)
        if output is None:
            raise PluginError(f"kerashub: preset '{preset}' has neither a feature map nor tokens.")
    model = keras.Model(network.input, output, name=NAME)
    count_names_anew(model)
    return model


def _outputs(operation: Any) -> list[Any]:
    """Its main output first of all: others are for feature pyramids."""
    output = operation.output
    return [output] if isinstance(output, keras.KerasTensor) else list(keras.tree.flatten(output))[:1]


def _blocks(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`layer0`, `layer1`, … by the first number in a path; what stands before them is `stem`, what follows stays with the last."""
    blocks: dict[str, list[str]] = {}
    current = "stem"
    for path in paths:
        if path == "input":
            continue
        if match := _NUMBERED.search(path):
            current = f"{match[1]}{match[2]}"
        blocks.setdefault(current, []).append(path)
    return {name: tuple(members) for name, members in blocks.items()}
