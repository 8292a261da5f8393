"""What is known about a backbone without building it."""

from __future__ import annotations

import dataclasses
from typing import Any

from finetunekit.models.weights import weights_availability
from finetunekit.types import PixelContract, Registered


def describe_backbone(entry: Registered) -> dict[str, Any]:
    """Everything that is known of a backbone without building it, as plain values."""
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
        "crop_pct": spec.crop_pct,
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


def pixel_formula(pixels: dict[str, Any]) -> str:
    """What is done to pixels, steps that change nothing left out: `(rgb - 127) / 128`."""
    scale, mean, std = pixels["scale"], pixels["mean"], pixels["std"]
    text = pixels["order"] if scale == 1 else f"{pixels['order']} * {scale:.4g}"
    text = text if not any(mean) else f"({text} - {_numbers(mean)})"
    return text if set(std) == {1.0} else f"{text} / {_numbers(std)}"


def _numbers(values: list[float] | tuple[float, ...]) -> str:
    """One number where all are the same."""
    return f"{values[0]:g}" if len(set(values)) == 1 else f"({', '.join(f'{value:g}' for value in values)})"
