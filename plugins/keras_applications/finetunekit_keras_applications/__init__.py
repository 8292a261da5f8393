"""Every image classifier of `keras.applications` as a backbone, by its function's name in lower case, and networks of KerasHub.

VGG16 is built in.
"""

from __future__ import annotations

from functools import cache, partial
from importlib.resources import files

from finetunekit import Backbone, BackboneSpec, WeightSource, hookimpl
from finetunekit.hookspecs import RegisterBackbone
from finetunekit_keras_applications.catalogue import ENTRIES, Entry
from finetunekit_keras_applications.hub import NETWORKS, HubOptions, build_hub
from finetunekit_keras_applications.networks import (
    KerasApplicationOptions,
    Network,
    build_application,
    convert_h5,
)

#: Networks that know more than the small ones of the package index, at a price that a computer without a GPU can pay.
WORTH = {
    "convnexttiny": "published 81.3 % against 75.1 % of efficientnet_lite0, for twelve times the arithmetic",
    "efficientnetv2b0": "published 78.7 % against 75.1 % of efficientnet_lite0, for not quite twice the arithmetic",
}


@hookimpl
def register_backbones(register: RegisterBackbone) -> None:
    """All of them; nothing of Keras is imported."""
    for entry in ENTRIES:
        network = entry.network
        register(network.name, partial(_build, network), KerasApplicationOptions, spec=spec_of(entry))
    for hub in NETWORKS:
        register(hub.name, partial(build_hub, hub), HubOptions, spec=hub.with_source())


def _build(network: Network, options: KerasApplicationOptions, image_size_px: int) -> Backbone:
    return build_application(network, image_size_px)


@cache
def costs() -> dict[str, tuple[int, int]]:
    """Parameters, and multiply-adds of one photo at native size, by name. Written by benchmarks/backbone_costs.py."""
    text = (files("finetunekit_keras_applications") / "costs.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {name: (int(parameters), int(multiply_adds)) for name, parameters, multiply_adds in rows}


def spec_of(entry: Entry) -> BackboneSpec:
    """What is known of a network without building it."""
    network, family = entry.network, entry.network.family
    parameters, multiply_adds = costs()[network.name]
    return BackboneSpec(
        title=network.function,
        pixels=family.pixels,
        native_size_px=network.native_size_px,
        min_size_px=family.min_size_px,
        parameters=parameters,
        licence=family.licence,
        attribution=family.attribution,
        pretrained_on=entry.pretrained_on,
        published=_published(entry),
        reference=f"{family.reference}; keras.applications.{network.function}",
        weight_sources=_sources(entry, parameters),
        multiply_adds=multiply_adds,
        top_1_percent=entry.top_1,
        crop_pct=family.crop_at(network.native_size_px),
        worth=WORTH.get(network.name, ""),
    )


def _published(entry: Entry) -> str:
    top_5 = "" if entry.top_5 is None else f" and {entry.top_5} % top-5"
    return f"{entry.top_1} % top-1{top_5} on ImageNet's validation photos, per {entry.source}"


def _sources(entry: Entry, parameters: int) -> tuple[WeightSource, ...]:
    """The file that Keras publishes, where Keras itself pins its checksum."""
    if entry.checksum is None:
        return ()
    return (
        WeightSource(
            kind="framework",
            location=entry.location,
            checksum=entry.checksum,
            convert=partial(convert_h5, entry.network),
            size_mb=round(parameters * 4 / 1e6, 1),
            note="weights as published by Keras",
        ),
    )
