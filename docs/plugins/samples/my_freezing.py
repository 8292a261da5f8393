"""A freezing policy: the last block learns at the stage's rate, each block before it slower, the first ones not at all."""

from __future__ import annotations

from pydantic import Field

from finetunekit import ConfigError, FreezeDecision, LayerInfo, Options, hookimpl
from finetunekit.hookspecs import Register


class DecayOptions(Options):
    """Options of `block_decay`."""

    factor: float = Field(2.6, ge=1, le=1000, description="How much slower each block learns than the next one.")
    frozen: int = Field(1, ge=0, le=1000, description="Blocks at the input that do not learn at all.")


def build_decay(options: DecayOptions, layers: tuple[LayerInfo, ...]) -> FreezeDecision:
    """Give each block of the backbone a rate of its own.

    Args:
        options: How steeply rates fall towards the input, and where they end.
        layers: Layers of the backbone in the order of the forward pass.

    Returns:
        Layer path → rate multiplier: 0 is frozen, 1 the stage's rate.

    Raises:
        ConfigError: If no block is left to learn, or the backbone names none.

    Source: Howard and Ruder 2018, section 3.2 (discriminative fine-tuning, factor 2.6), arXiv:1801.06146.
    """
    blocks = list(dict.fromkeys(layer.block for layer in layers if layer.block))
    if options.frozen >= len(blocks):
        raise ConfigError(
            f"freeze.frozen: {options.frozen} leaves none of the backbone's {len(blocks)} blocks to learn."
        )
    rates = {block: options.factor ** (place + 1 - len(blocks)) for place, block in enumerate(blocks)}
    rates |= dict.fromkeys(blocks[: options.frozen], 0.0)
    first = rates[blocks[0]]
    return {layer.path: rates.get(layer.block or "", first) for layer in layers}


@hookimpl
def register_freezing_policies(register: Register) -> None:
    """One policy."""
    register("block_decay", build_decay, DecayOptions)
