"""`finetunekit backbones`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from finetunekit.cli.common import json_option, load_host, print_json, print_lines, print_table
from finetunekit.system.terminal import wrap

if TYPE_CHECKING:
    from finetunekit.types import PixelContract, Registered

HEADER = ("name", "M par", "G m-a", "px", "top-1", "licence", "pixels", "from")
LEGEND = (
    "M par: million parameters without classification top. G m-a: thousand million multiply-adds of one photo at px, the native side. "
    "top-1: published percent on ImageNet-1k. pixels: channel order, and what black to white becomes. from: weights are here, in keras' "
    "cache, in a package index, on a host only, or in a file that you name. All about one: finetunekit backbones NAME"
)


@click.command("backbones")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List backbones: size, cost, licence, score, pixels, and where their weights can be had; or all about one, NAME.

    Nothing is built and no network is asked.
    """
    host = load_host()
    if name is not None:
        facts = describe(host.find("backbone", name, "backbones"))
        print_json(facts) if as_json else _print_facts(facts)
        return
    rows = [describe(entry) for _, entry in sorted(host.registries["backbone"].items())]
    if as_json:
        print_json(rows)
        return
    print_table(map(_line, rows), HEADER, right=(1, 2, 3, 4))
    print_lines(["", *wrap(LEGEND)])


def describe(entry: Registered) -> dict[str, Any]:
    """Everything that is known of a backbone without building it, as plain values."""
    from finetunekit.models.weights import weights_availability

    spec = entry.spec
    assert spec is not None  # PluginHost refuses a backbone without one
    found = weights_availability(entry.name, spec)
    return {
        "name": entry.name,
        "title": spec.title,
        "parameters": spec.parameters,
        "multiply_adds": spec.multiply_adds,
        "native_size_px": spec.native_size_px,
        "min_size_px": spec.min_size_px,
        "top_1_percent": spec.top_1_percent,
        "published": spec.published,
        "pretrained_on": spec.pretrained_on,
        "licence": spec.licence,
        "attribution": spec.attribution,
        "reference": spec.reference,
        "pixels": {**dataclasses.asdict(spec.pixels), "range": pixel_range(spec.pixels)},
        "has_own_answers": spec.top is not None,
        "weights": {"place": found.place, "is_on_disk": found.is_on_disk, "words": found.words},
        "sources": [f"{source.kind}: {source.location}" for source in spec.weight_sources],
        "plugin": entry.origin.plugin,
        "from": str(entry.origin),
        "options": sorted(entry.options.model_fields),
    }


def pixel_range(pixels: PixelContract) -> tuple[float, float]:
    """What the darkest and the brightest value of any channel become."""
    pairs = list(zip(pixels.mean, pixels.std, strict=True))
    return min(-mean / std for mean, std in pairs), max((255 * pixels.scale - mean) / std for mean, std in pairs)


def _line(facts: dict[str, Any]) -> tuple[str, ...]:
    cost, score = facts["multiply_adds"], facts["top_1_percent"]
    return (
        facts["name"],
        f"{facts['parameters'] / 1e6:.1f}",
        f"{cost / 1e9:.1f}" if cost is not None else "-",
        str(facts["native_size_px"]),
        f"{score:.1f}" if score is not None else "-",
        facts["licence"],
        _shown_range(facts["pixels"]),
        facts["weights"]["place"],
    )


def _shown_range(pixels: dict[str, Any]) -> str:
    low, high = (f"{value:.0f}" if abs(value) >= 10 else f"{round(value, 1):g}" for value in pixels["range"])
    return f"{pixels['order']} {low}..{high}"


def _print_facts(facts: dict[str, Any]) -> None:
    """One fact a line, long ones wrapped below themselves."""
    pixels = facts["pixels"]
    formula = pixel_formula(pixels)
    cost = facts["multiply_adds"]
    lines = {
        "title": facts["title"],
        "parameters": f"{facts['parameters']:,} without classification top",
        "multiply-adds": f"{cost:,} for one photo at {facts['native_size_px']} px"
        if cost is not None
        else "not counted",
        "size": f"{facts['native_size_px']} px, at least {facts['min_size_px']} px",
        "pixels": f"{formula}, {_shown_range(pixels)[4:]}, of pixels from 0 to 255",
        "published": facts["published"],
        "pretrained on": facts["pretrained_on"],
        "own answers": "its 1000-way top comes with its weights"
        if facts["has_own_answers"]
        else "no: weights without top",
        "licence": facts["licence"],
        "attribution": facts["attribution"],
        "reference": facts["reference"],
        "weights": facts["weights"]["words"],
        "options": ", ".join(facts["options"]) or "none",
        "from": f"plugin {facts['plugin']} ({facts['from']})",
    }
    print_lines([facts["name"]])
    print_table(lines.items(), wrapped=(1,), indent=2)


def pixel_formula(pixels: dict[str, Any]) -> str:
    """What is done to pixels, steps that change nothing left out: `(rgb - 127) / 128`."""
    scale, mean, std = pixels["scale"], pixels["mean"], pixels["std"]
    text = pixels["order"] if scale == 1 else f"{pixels['order']} * {scale:.4g}"
    text = text if not any(mean) else f"({text} - {_numbers(mean)})"
    return text if set(std) == {1.0} else f"{text} / {_numbers(std)}"


def _numbers(values: list[float] | tuple[float, ...]) -> str:
    """One number where all are the same."""
    return f"{values[0]:g}" if len(set(values)) == 1 else f"({', '.join(f'{value:g}' for value in values)})"
