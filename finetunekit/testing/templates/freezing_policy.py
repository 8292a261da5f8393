"""Freezing policy `my_component`: the last layers train, the rest is frozen."""

from __future__ import annotations

from pydantic import Field

from finetunekit import ConfigError, FreezeDecision, LayerInfo, Options, hookimpl
from finetunekit.hookspecs import Register


class MyComponentOptions(Options):
    """Options of `my_component`."""

    train: int = Field(2, ge=1, le=100_000, description="Layers with weights that train, counted from the output.")


def build_my_component(options: MyComponentOptions, layers: tuple[LayerInfo, ...]) -> FreezeDecision:
    """Freeze everything before the last `train` layers that have weights; BatchNorm layers are not counted.

    Args:
        options: How many train.
        layers: Layers of the backbone in the order of the forward pass.

    Returns:
        Layer path → rate multiplier: 0 is frozen, 1 the stage's rate, numbers between them are lower rates.

    Raises:
        ConfigError: If the backbone has fewer such layers.
    """
    counted = [layer.index for layer in layers if layer.parameters and not layer.is_batch_norm]
    if options.train > len(counted):
        raise ConfigError(
            f"freeze.train: {options.train} is more than the backbone's {len(counted)} layers with weights."
        )
    first = counted[-options.train]
    return {layer.path: 1.0 if layer.index >= first else 0.0 for layer in layers}


@hookimpl
def register_freezing_policies(register: Register) -> None:
    """One policy."""
    register("my_component", build_my_component, MyComponentOptions)
