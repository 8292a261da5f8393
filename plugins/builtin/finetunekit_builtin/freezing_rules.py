"""Freezing policies by block, by pattern and by depth; each says which of its rules decided for which layer."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field

from finetunekit import ConfigError, FreezeDecision, LayerInfo, LayerRate, Options, did_you_mean

_Rate = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class LastBlocksOptions(Options):
    """Options of `last_blocks`."""

    n: int = Field(1, ge=1, le=10_000, description="Blocks that train, counted from the output.")
    depthwise: bool = Field(
        True,
        description="Train depthwise convolutions as well: they hold few weights, and their gradient is slow on a CPU.",
    )


class PatternRule(Options):
    """One rule of `pattern`."""

    layers: str = Field(
        min_length=1,
        max_length=200,
        description="Layer paths: `*` matches any text, `?` one character, `[ab]` one of these.",
    )
    rate: _Rate = Field(description="Multiplier of the stage's learning rate for these layers; 0 freezes them.")


class PatternOptions(Options):
    """Options of `pattern`."""

    rules: tuple[PatternRule, ...] = Field(
        min_length=1,
        max_length=1000,
        description="Rules, tried in order; the first that matches a layer's path applies to it.",
        examples=[[{"layers": "*conv2*", "rate": 0.5}]],
    )
    otherwise: _Rate = Field(0.0, description="Multiplier for layers that no rule matches; 0 freezes them.")


class LayerDecayOptions(Options):
    """Options of `layer_decay`."""

    decay: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Each block's rate as a fraction of the rate of the next block towards the output.",
    )
    blocks: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Blocks that train, counted from the output; the others are frozen. null: all.",
    )


def build_last_blocks(options: LastBlocksOptions, layers: tuple[LayerInfo, ...]) -> FreezeDecision:
    """Train the last n blocks of the backbone, and what follows them; freeze everything before.

    Args:
        options: How many.
        layers: Layers of the backbone in the order of the forward pass.

    Returns:
        1 for layers of the last n blocks and for layers of no block that come after those blocks begin, 0 for the rest, and for depthwise
        convolutions where they are to stay frozen.

    Raises:
        ConfigError: If the backbone names no blocks, or fewer than n.
    """
    blocks = _blocks(layers, "last_blocks", options.n, "freeze.n")
    trained = blocks[-options.n :]
    start = next(layer.index for layer in layers if layer.block == trained[0])
    return {layer.path: float(_is_trained(layer, trained, start, options)) for layer in layers}


def _is_trained(layer: LayerInfo, blocks: list[str], start: int, options: LastBlocksOptions) -> bool:
    if layer.class_name == "DepthwiseConv2D" and not options.depthwise:
        return False
    return layer.block in blocks or (layer.block is None and layer.index > start)


def build_pattern(options: PatternOptions, layers: tuple[LayerInfo, ...]) -> FreezeDecision:
    """Give each layer the rate of the first rule whose pattern matches its path.

    Args:
        options: Rules in order, and the rate of layers that none of them claims.
        layers: Layers of the backbone in the order of the forward pass.

    Returns:
        For every layer its rate and the rule that claimed it.

    Raises:
        ConfigError: If a rule claims no layer, because none matches or because earlier rules claimed them all.
    """
    decision: dict[str, LayerRate] = {}
    for layer in layers:
        rule = next((rule for rule in options.rules if fnmatchcase(layer.path, rule.layers)), None)
        by = f"pattern '{rule.layers}'" if rule else "no pattern"
        decision[layer.path] = LayerRate(rule.rate if rule else options.otherwise, by)
    claimed = {claim.by for claim in decision.values()}
    for number, rule in enumerate(options.rules):
        if f"pattern '{rule.layers}'" not in claimed or rule.layers in {r.layers for r in options.rules[:number]}:
            raise ConfigError(_claims_nothing(options, number, [layer.path for layer in layers]))
    return decision


def build_layer_decay(options: LayerDecayOptions, layers: tuple[LayerInfo, ...]) -> FreezeDecision:
    """Let the rate fall from block to block towards the input: `decay ** depth`, the last block having depth 1, the head 0.

    Layers of no block belong to the depth of the block before them; those before the first block are one depth deeper than it, those
    after the last block train at the stage's rate.

    Args:
        options: Decay in (0, 1], and how many blocks train.
        layers: Layers of the backbone in the order of the forward pass.

    Returns:
        For every layer its rate and its depth.

    Raises:
        ConfigError: If the backbone names no blocks, or fewer than `blocks`.

    Source: Clark et al. 2020, appendix A.2 (layerwise learning rate decay), arXiv:2003.10555; depths as in Bao et al. 2022 (BEiT,
    appendix on fine-tuning), arXiv:2106.08254; 0.75 as in He et al. 2022, table 9, arXiv:2111.06377.
    """
    blocks = _blocks(layers, "layer_decay", options.blocks or 1, "freeze.blocks")
    last = max(layer.index for layer in layers if layer.block == blocks[-1])
    decision: dict[str, LayerRate] = {}
    depth = len(blocks) + 1
    for layer in layers:
        depth = len(blocks) - blocks.index(layer.block) if layer.block else 0 if layer.index > last else depth
        is_frozen = options.blocks is not None and depth > options.blocks
        decision[layer.path] = LayerRate(0.0 if is_frozen else options.decay**depth, f"depth {depth}")
    return decision


def _blocks(layers: tuple[LayerInfo, ...], policy: str, wanted: int, option: str) -> list[str]:
    """Names of the backbone's blocks, input to output."""
    blocks = list(dict.fromkeys(layer.block for layer in layers if layer.block))
    if not blocks:
        raise ConfigError(
            f"freeze: '{policy}' goes by blocks, and this backbone names none. Use 'pattern' or 'first_n'."
        )
    if wanted > len(blocks):
        raise ConfigError(
            f"{option}: {wanted} is more than the backbone's {len(blocks)} blocks ({', '.join(blocks[:12])}). "
            f"Allowed: 1 to {len(blocks)}."
        )
    return blocks


def _claims_nothing(options: PatternOptions, number: int, paths: list[str]) -> str:
    rule = options.rules[number]
    if any(fnmatchcase(path, rule.layers) for path in paths):
        return f"freeze.rules[{number}]: '{rule.layers}' claims nothing: earlier rules claimed every layer it matches. Move it up."
    hint = did_you_mean(rule.layers, paths)
    return f"freeze.rules[{number}]: '{rule.layers}' matches none of the backbone's {len(paths)} layers.{hint} `plan --layers` lists them."
