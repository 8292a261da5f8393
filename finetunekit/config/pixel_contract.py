"""Which pixels a run feeds its network: how a photo becomes its square, and the contract that its configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetunekit.config.sections import PixelsSection
from finetunekit.types import BackboneSpec, PixelContract

_NAMED = {
    "zero_to_one": PixelContract(scale=1 / 255),
    "minus_one_to_one": PixelContract(scale=1 / 127.5, mean=(1.0, 1.0, 1.0)),
    "zero_to_255": PixelContract(),
}


def fitting_of(pixels: PixelsSection | Mapping[str, Any]) -> dict[str, Any]:
    """How a photo becomes the network's square: what `finetunekit.data.decode.fit_photo` takes beside the photo.

    Args:
        pixels: The section, or the section of a finished run's configuration.
    """
    values = pixels.model_dump() if isinstance(pixels, PixelsSection) else pixels
    return {key: values.get(key) for key in ("size_px", "resize", "fit", "crop_pct", "source_px")}


def contract_of(section: PixelsSection, spec: BackboneSpec) -> PixelContract:
    """The contract a run feeds by: the backbone's own, or the one its preset names."""
    return spec.pixels if section.contract == "backbone" else _NAMED[section.contract]


def describe_contract(contract: PixelContract) -> str:
    """A contract in words, such as `RGB / 255` or `BGR - (103.939, 116.779, 123.68)`."""
    text = contract.order.upper()
    if contract.scale != 1:
        text += f" / {1 / contract.scale:g}"
    if any(contract.mean):
        text += f" - {_show_channels(contract.mean)}"
    if any(value != 1 for value in contract.std):
        text = f"({text}) / {_show_channels(contract.std)}"
    return text


def _show_channels(values: tuple[float, float, float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else f"({', '.join(f'{value:g}' for value in values)})"


def contract_warning(section: PixelsSection, spec: BackboneSpec) -> str | None:
    """One line where the pixels are not those that the backbone was pretrained on; None where they are."""
    fed = contract_of(section, spec)
    if fed == spec.pixels:
        return None
    return (
        f"pixels.contract: {section.contract} feeds {describe_contract(fed)}; {spec.title} was pretrained on "
        f"{describe_contract(spec.pixels)}, which contract: backbone feeds."
    )


def pixel_parts(section: PixelsSection, contract: PixelContract) -> list[Any]:
    """What un-augmented input follows from besides the photo's bytes, as JSON values."""
    c = contract
    source = [] if section.source_px is None else ["source_px", section.source_px]
    crop = [] if section.crop_pct in (None, 1.0) else ["crop_pct", section.crop_pct]
    return [section.size_px, section.resize, section.fit, c.order, c.scale, list(c.mean), list(c.std), *source, *crop]


def contract_from(values: Mapping[str, Any]) -> PixelContract:
    """A contract as `run.json` keeps it."""
    first, second, third = values["mean"]
    return PixelContract(values["order"], values["scale"], (first, second, third), tuple(values["std"]))
