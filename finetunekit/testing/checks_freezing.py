"""The contract of a freezing policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from finetunekit.config.plan import Chosen
from finetunekit.errors import ConfigError
from finetunekit.models.freezing import apply_decision, check_decision, describe_layers
from finetunekit.plugins.components import call_builder
from finetunekit.system.environment import start_tensorflow
from finetunekit.testing.contract import ContractError, Subject, UnfitExampleError, choose
from finetunekit.testing.networks import policy_backbones
from finetunekit.types import Backbone, Builder, LayerInfo, Options

_BEYOND = 1000


def check_freezing_policy(
    build: Builder, options: Options | None = None, *, backbones: Mapping[str, Backbone] | None = None
) -> None:
    """Check a freezing policy on a flat chain, on named blocks, on a model inside a model and on BatchNorm.

    Args:
        build: The builder that the plugin registers.
        options: An instance of its options; default: `Options()`.
        backbones: What to call it → a backbone that it must be able to decide on; default: the four above, of which its options must
            fit at least one and may refuse the others with `ConfigError`.

    Raises:
        ContractError: If a decision is not a mapping of known paths to finite multipliers >= 0, is not the same twice, or cannot be
            applied; if a backbone it does not fit, or a number of layers larger than there are, is not a `ConfigError`; or if its
            options are not as they should be.
    """
    verify_freezing_policy(choose("freezing policy", build, options), backbones)


def verify_freezing_policy(chosen: Chosen, backbones: Mapping[str, Backbone] | None = None) -> None:
    """`check_freezing_policy` of a component as a plan holds it."""
    start_tensorflow()
    subject, refusals = Subject(chosen), []
    tried = policy_backbones() if backbones is None else backbones
    for shape, backbone in tried.items():
        refusal = _check_on(subject, shape, backbone)
        if refusal is None:
            with subject.part():
                _check_too_large(subject, shape, describe_layers(backbone))
            subject.settle()  # on the next shape it would break the same rules
        elif backbones is not None:
            raise ContractError(f"{subject.label}: on {shape}: {refusal}")
        else:
            refusals.append(refusal)
    if len(refusals) == len(tried):
        raise UnfitExampleError(
            f"{subject.label}: its options fit none of {', '.join(tried)}: {refusals[0]} Give options that fit one, or backbones=."
        )


def _check_on(subject: Subject, shape: str, backbone: Backbone) -> str | None:
    """None where the policy decided well, its words where it refused."""
    layers = describe_layers(backbone)
    with subject.during(f"deciding on {shape}"):
        try:
            first = call_builder(subject.chosen, layers)
        except ConfigError as exc:
            return str(exc)
        filled = check_decision(first, layers, subject.label, train_batch_norm=False)
        kept = dict(first)
        second = call_builder(subject.chosen, layers)
        words = f"decides differently the second time it is asked about the same layers ({shape}); it must be pure."
        subject.expect(isinstance(second, Mapping) and dict(second) == kept and dict(first) == kept, words)
        _apply(backbone, filled)
    return None


def _apply(backbone: Backbone, decision: Mapping[str, float]) -> None:
    """As a run does it, under a head."""
    import keras

    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.model.output)
    model = keras.Model(backbone.model.inputs[0], keras.layers.Dense(3, name="logits")(pooled))
    apply_decision(model, backbone.model, decision)


def _check_too_large(subject: Subject, shape: str, layers: tuple[LayerInfo, ...]) -> None:
    """An option that counts layers must not be cut down in silence: what was asked would not be what happens."""
    options = subject.chosen.options
    for name, value in options:
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        low, *large = (_decide(subject, name, number, layers) for number in (0, len(layers) + 1, len(layers) + _BEYOND))
        is_cut = large[0] is not None and large[0] == large[1]
        words = (
            f"{name}={len(layers) + 1} is taken on {shape}, which has {len(layers)} layers, and does what a smaller number would; "
            "raise ConfigError and say what is allowed."
        )
        subject.expect(not is_cut or low in (None, large[0]), words)


def _decide(subject: Subject, name: str, number: int, layers: tuple[LayerInfo, ...]) -> dict[str, Any] | None:
    """The decision with another number in one option; None where the options or the policy refuse it."""
    registered = subject.chosen.registered
    try:
        options = registered.options.model_validate({**dict(subject.chosen.options), name: number})
    except pydantic.ValidationError:
        return None
    chosen = Chosen(subject.chosen.kind, registered, options, ())
    with subject.during(f"deciding with {name}={number} on {len(layers)} layers"):
        try:
            return dict(call_builder(chosen, layers))
        except ConfigError:
            return None
