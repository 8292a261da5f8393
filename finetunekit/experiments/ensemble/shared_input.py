"""One square of a photo for several networks: of which each sees the centre that it was trained on, at its own size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetunekit.config.pixel_contract import contract_from
from finetunekit.errors import ConfigError
from finetunekit.runs.folder import FinishedRun
from finetunekit.types import PixelContract

_SAME = ("fit", "resize", "source_px")


@dataclass(frozen=True, slots=True)
class SharedInput:
    """How a photo becomes the input of all members.

    Attributes:
        size_px: Side of the square.
        crop_pct: Share of the short side that it shows; None where photos are not cropped.
        contract: What the network of all is fed by: that of the members where it is one, else RGB in [0, 255].
        own_contracts: Of each member inside the network; None: it is fed as all are.
        crops_px: Side of the centre that each member sees.
        base: Position of the member whose square it is nearest to.
    """

    size_px: int
    crop_pct: float | None
    contract: PixelContract
    own_contracts: tuple[PixelContract | None, ...]
    crops_px: tuple[int, ...]
    base: int


def share_input(members: Sequence[FinishedRun]) -> SharedInput:
    """The smallest square from which every member can be given what it was trained on, or more finely.

    Raises:
        ConfigError: If one square cannot hold that.
    """
    pixels = [member.config["pixels"] for member in members]
    for member, own in zip(members[1:], pixels[1:], strict=True):
        for key in _SAME:
            if own.get(key) != pixels[0].get(key):
                raise ConfigError(
                    f"{members[0].path} has pixels.{key}: {_shown(pixels[0], key)}, {member.path} has {_shown(own, key)}: no square of a "
                    f"photo holds both. Train them with the same pixels.{key}; sizes, crop_pct and backbones may differ."
                )
    shares = [float(own.get("crop_pct") or 1.0) if own["fit"] == "crop" else 1.0 for own in pixels]
    most = max(shares)
    wanted = [own["size_px"] * most / share for own, share in zip(pixels, shares, strict=True)]
    size_px = round(max(wanted))
    contracts = [contract_from(member.state["pixels"]) for member in members]
    is_one = all(contract == contracts[0] for contract in contracts)
    return SharedInput(
        size_px=size_px,
        crop_pct=most if pixels[0]["fit"] == "crop" else None,
        contract=contracts[0] if is_one else PixelContract(),
        own_contracts=tuple(None if is_one else contract for contract in contracts),
        crops_px=tuple(size_px if share == most else round(size_px * share / most) for share in shares),
        base=wanted.index(max(wanted)),
    )


def _shown(pixels: Mapping[str, Any], key: str) -> str:
    value = pixels.get(key)
    return "null" if value is None else str(value)
