"""A plugin file of very small components: what a tiny run and the checks of the other seams are made with."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from finetunekit import (
    Backbone,
    BackboneSpec,
    DataError,
    Features,
    FreezeDecision,
    LayerInfo,
    Options,
    PhotoListing,
    PhotoRecord,
    PixelContract,
    SourceContext,
    hookimpl,
)
from finetunekit.hookspecs import Register, RegisterBackbone

if TYPE_CHECKING:
    import keras

#: File in the root of tiny photos that lists them: path, label, split.
TABLE = "photos.csv"
#: What a tiny run says of its photos.
STAND_IN = "coloured noise & no photos: a stand-in made by finetunekit.testing"

TINY_SPEC = BackboneSpec(
    title="Two convolutions",
    pixels=PixelContract(scale=1 / 255),
    native_size_px=8,
    min_size_px=8,
    parameters=498,  # 3·3·3·6 + 6 and 3·3·6·6 + 6
    licence="Apache-2.0",
    attribution="",
    pretrained_on="nothing",
    published="none",
    reference="finetunekit.testing",
)


class TinyOptions(Options):
    """Options of `testing_tiny`."""

    kind: Literal["map", "tokens", "vector"] = Field("map", description="What its output's axes mean.")


def build_tiny(options: TinyOptions, image_size_px: int) -> Backbone:
    """Two convolutions in two blocks: `(batch, size, size, 3)` → `(batch, side, side, 6)`, its tokens or their mean."""
    import keras

    inputs = keras.Input((image_size_px, image_size_px, 3), name="input")
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="block1_conv")(inputs)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="block2_conv")(x)
    if options.kind == "tokens":
        x = keras.layers.Reshape((-1, 6), name="tokens")(x)
    elif options.kind == "vector":
        x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    blocks = {"block1": ("block1_conv",), "block2": ("block2_conv",)}
    return Backbone(keras.Model(inputs, x, name="tiny"), options.kind, blocks)


def build_linear(options: Options, features: Features, num_classes: int) -> keras.KerasTensor:
    """Mean over whatever is between batch and channels, then one Dense: logits `(batch, num_classes)` float32."""
    import keras

    x = features.tensor
    if features.kind == "map":
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    elif features.kind == "tokens":
        x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)


def build_first_block(options: Options, layers: tuple[LayerInfo, ...]) -> FreezeDecision:
    """Freeze everything up to the first block's end."""
    last = max((layer.index for layer in layers if layer.block == "block1"), default=-1)
    return {layer.path: 0.0 if layer.index <= last else 1.0 for layer in layers}


def build_table(options: Options, context: SourceContext) -> PhotoListing:
    """Photos of a table `photos.csv` with the columns path, label and split."""
    if context.root is None or not (context.root / TABLE).is_file():
        raise DataError(f"{context.root}: has no {TABLE}.")
    with (context.root / TABLE).open(encoding="utf-8", newline="") as stream:
        rows = [PhotoRecord(context.root / row["path"], row["label"], row["split"]) for row in csv.DictReader(stream)]
    return PhotoListing(tuple(rows), context.root, stand_in=STAND_IN)


@hookimpl
def register_backbones(register: RegisterBackbone) -> None:
    """One backbone."""
    register("testing_tiny", build_tiny, TinyOptions, spec=TINY_SPEC)


@hookimpl
def register_heads(register: Register) -> None:
    """One head."""
    register("testing_linear", build_linear)


@hookimpl
def register_freezing_policies(register: Register) -> None:
    """One policy."""
    register("testing_first_block", build_first_block)


@hookimpl
def register_data_sources(register: Register) -> None:
    """One data source."""
    register("testing_table", build_table)
