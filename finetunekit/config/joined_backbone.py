"""Several backbones as one: each sees the photo at its own size and by its own pixel contract, their pooled features stand side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from finetunekit._version import __version__
from finetunekit.config.plan import Chosen
from finetunekit.plugins.components import call_builder
from finetunekit.types import Backbone, BackboneSpec, Options, Origin, PixelContract, Registered

if TYPE_CHECKING:
    import keras

#: Between the names of the parts; no registered name needs it.
PLUS = "+"


def join_backbones(parts: Sequence[Chosen], pixels: Mapping[str, Any]) -> Chosen:
    """Make one backbone of several.

    Args:
        parts: At least 2, of different names.
        pixels: The section of that name.

    Returns:
        A component that is built, planned and frozen as any backbone is: square photos of one size, RGB in [0, 255], to a vector. Where
        photos are cropped as the networks were scored, the square is the largest crop that a part asks for, of which others see the middle.
    """
    name = PLUS.join(part.name for part in parts)
    origin = Origin("finetunekit", "finetunekit", __version__)
    spec = _spec([spec_of(part) for part in parts])
    is_own_crop = pixels.get("fit") == "crop" and pixels.get("crop_pct") in (None, spec.crop_pct)
    shown = tuple(spec_of(part).crop_pct / spec.crop_pct if is_own_crop else 1.0 for part in parts)
    registered = Registered(name, partial(_build, tuple(parts), shown), Options, origin, spec)
    return Chosen("backbone", registered, Options(), ("backbones",))


def spec_of(part: Chosen) -> BackboneSpec:
    """What is known of one of them without building it."""
    spec = part.registered.spec
    assert spec is not None  # PluginHost refuses a backbone without one
    return spec


def layer_prefix(part: Chosen) -> str:
    """What the names of a part's layers begin with."""
    return f"{part.name}_"


def _spec(specs: Sequence[BackboneSpec]) -> BackboneSpec:
    largest = max(specs, key=lambda spec: spec.native_size_px)
    costs = [spec.multiply_adds for spec in specs]
    return BackboneSpec(
        title=" + ".join(spec.title for spec in specs),
        pixels=PixelContract(),  # each part's own contract is its first layer
        native_size_px=largest.native_size_px,
        min_size_px=max(spec.min_size_px for spec in specs),
        parameters=sum(spec.parameters for spec in specs),
        licence=_all(spec.licence for spec in specs),
        attribution=_all(spec.attribution for spec in specs),
        pretrained_on=_all(spec.pretrained_on for spec in specs),
        published=_all(f"{spec.title}: {spec.published}" for spec in specs),
        reference=_all(spec.reference for spec in specs),
        multiply_adds=None if None in costs else sum(filter(None, costs)),
        crop_pct=max(spec.crop_pct for spec in specs),
    )


def _all(texts: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _build(parts: Sequence[Chosen], shown: Sequence[float], options: Options, image_size_px: int) -> Backbone:
    """Build every part for its native size, on one input.

    Args:
        parts: Which.
        shown: How much of a side of the square each of them sees, at most 1.
        options: None.
        image_size_px: Side of the square input; a part of another size has it resized (bilinear) inside the network.

    Returns:
        Model `(batch, image_size_px, image_size_px, 3)` RGB in [0, 255] → vector `(batch, channels)`, maps and tokens averaged.
        Layers are called `<part>_<layer>`; blocks are counted from the end, so that the last n are the last n of each part.
    """
    import keras

    pixels = keras.Input((image_size_px, image_size_px, 3), name="pixels")
    vectors, blocks = [], []
    for part, share in zip(parts, shown, strict=True):
        built = call_builder(part, spec_of(part).native_size_px)
        prefix = layer_prefix(part)
        features = _repeated(built.model, _fed(pixels, part, image_size_px, share), prefix)
        vectors.append(_pooled(features, built.kind, prefix))
        blocks.append({block: tuple(prefix + path for path in paths) for block, paths in built.blocks.items()})
    joined = keras.layers.Concatenate(name="joined", dtype="float32")(vectors)
    return Backbone(model=keras.Model(pixels, joined, name="joined_backbone"), kind="vector", blocks=_merged(blocks))


def _repeated(model: keras.Model, fed: keras.KerasTensor, prefix: str) -> keras.KerasTensor:
    """What copies of a model's layers make of another input, layer by layer, so that freezing, cache and Grad-CAM find them.

    `clone_model` would copy them for an input of its own, and they would have to be copied once more to be in one graph only.
    """
    import keras

    flat = keras.Model(model.inputs, model.outputs)
    made, copies = {id(flat.inputs[0]): fed}, dict[int, Any]()
    for depth in sorted(flat._nodes_by_depth, reverse=True):
        for node in flat._nodes_by_depth[depth]:
            if node.is_input:
                continue
            operation = node.operation
            if isinstance(operation, keras.Layer):
                operation = copies.get(id(operation)) or renamed(prefix, operation)
                copies[id(node.operation)] = operation
            args, kwargs = node.arguments.fill_in(made)
            outputs = keras.tree.flatten(operation(*args, **kwargs))
            made.update(zip(map(id, node.outputs), outputs, strict=True))
    return made[id(flat.outputs[0])]


def renamed(prefix: str, layer: Any) -> Any:
    """A copy of a layer, its weights drawn anew, whose name begins with a prefix."""
    return type(layer).from_config({**layer.get_config(), "name": prefix + layer.name})


def _fed(pixels: keras.KerasTensor, part: Chosen, size_px: int, share: float) -> keras.KerasTensor:
    """RGB in [0, 255] as the part was trained on: `(batch, native, native, 3)`, float32 under any precision."""
    import keras

    spec = spec_of(part)
    native_px, margin = spec.native_size_px, round((1 - share) * size_px / 2)
    if margin:
        pixels = keras.layers.Cropping2D(margin, name=f"{layer_prefix(part)}crop")(pixels)
    if native_px != size_px - 2 * margin:
        # the operation, not the layer `Resizing`, whose `training=True` by default reaches every layer that is called after it
        pixels = keras.ops.image.resize(pixels, (native_px, native_px), interpolation="bilinear")
    return standardised(pixels, spec.pixels, layer_prefix(part))


def standardised(pixels: keras.KerasTensor, contract: PixelContract, prefix: str) -> keras.KerasTensor:
    """RGB in [0, 255] by a contract, float32 under any precision; the layer is called `<prefix>rescaling`."""
    import keras

    if contract.order == "bgr":
        pixels = keras.ops.flip(pixels, axis=-1)
    scale = [contract.scale / std for std in contract.std]
    offset = [-mean / std for mean, std in zip(contract.mean, contract.std, strict=True)]
    return keras.layers.Rescaling(scale, offset, dtype="float32", name=f"{prefix}rescaling")(pixels)


def _pooled(features: keras.KerasTensor, kind: str, prefix: str) -> keras.KerasTensor:
    import keras

    if kind == "map":
        return keras.layers.GlobalAveragePooling2D(name=f"{prefix}gap")(features)  # (batch, channels)
    return keras.layers.GlobalAveragePooling1D(name=f"{prefix}gap")(features) if kind == "tokens" else features


def _merged(blocks: Sequence[Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    """Blocks level by level from the end, each named by all its parts' names of it."""
    merged = []
    for level in zip_longest(*(reversed(tuple(own.items())) for own in blocks)):
        there = [pair for pair in level if pair is not None]
        merged.append((" + ".join(dict.fromkeys(name for name, _ in there)), sum((paths for _, paths in there), ())))
    return dict(reversed(merged))
