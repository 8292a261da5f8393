"""Freezing policies that need no pattern: none, all, the first n layers."""

from __future__ import annotations

from pydantic import Field

from finetunekit import ConfigError, FreezeDecision, LayerInfo, Options


class FirstNOptions(Options):
    """Options of `first_n`."""

    n: int = Field(ge=0, le=100_000, description="Number of frozen layers, counted from and including the input layer.")


def build_first_n(options: FirstNOptions, layers: tuple[LayerInfo, ...]) -> FreezeDecision:
    """Freeze the first n layers of the backbone, as `for layer in backbone.layers[:n]: layer.trainable = False` does.

    Args:
        options: How many.
        layers: Layers of the backbone in the order of the forward pass.

    Returns:
        0 for the first n, 1 for the rest.

    Raises:
        ConfigError: If there are fewer than n.
    """
    if options.n > len(layers):
        raise ConfigError(
            f"freeze.n: {options.n} is more than the backbone's {len(layers)} layers. Allowed: 0 to {len(layers)}."
        )
    return {layer.path: 0.0 if layer.index < options.n else 1.0 for layer in layers}


def build_none(options: Options, layers: tuple[LayerInfo, ...]) -> FreezeDecision:
    """Train every layer of the backbone at the stage's rate."""
    return {layer.path: 1.0 for layer in layers}


def build_all(options: Options, layers: tuple[LayerInfo, ...]) -> FreezeDecision:
    """Freeze the whole backbone: only the head trains."""
    return {layer.path: 0.0 for layer in layers}
