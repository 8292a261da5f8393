"""The contract of a backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.plan import Chosen
from finetunekit.models.classifier import Classifier
from finetunekit.models.freezing import leaf_layers
from finetunekit.models.preprocessing import standardise
from finetunekit.system.environment import seeded, start_tensorflow
from finetunekit.testing.checks_spec import check_spec
from finetunekit.testing.contract import ContractError, Subject, choose
from finetunekit.testing.guards import no_network
from finetunekit.testing.networks import build_network, check_inference, check_saved, tiny_head
from finetunekit.types import Backbone, BackboneSpec, Builder, Options

if TYPE_CHECKING:
    import keras

_PHOTOS = 2
_SMALLEST_RUN_PX = 8  # pixels.size_px is no smaller


def check_backbone(build: Builder, options: Options | None = None, *, spec: BackboneSpec) -> None:
    """Check a backbone at its smallest and its native size, in float32 and bfloat16.

    Args:
        build: The builder that the plugin registers.
        options: An instance of its options; default: `Options()`.
        spec: What the plugin registers with it.

    Raises:
        ContractError: If the spec cannot be true; if the input is not `(batch, size, size, 3)` float32 or the output not of the kind it
            says; if names differ between builds, a block names a layer that is not there, or weights are loaded; if outputs are not
            finite, not the same twice, or depend on the other photos; if it does not take
            its weights back and say the same where it is built again;
            or if its options are not as they should be.
    """
    verify_backbone(choose("backbone", build, options, spec))


def verify_backbone(chosen: Chosen) -> None:
    """`check_backbone` of a component as a plan holds it."""
    start_tensorflow()
    subject, spec = Subject(chosen), chosen.registered.spec
    check_spec(subject, spec)
    assert spec is not None
    size_px = max(spec.min_size_px, _SMALLEST_RUN_PX)
    with seeded(0):
        first = _build(subject, size_px)
    x = _inputs(size_px, spec)
    parts: tuple[Callable[[], object], ...] = (
        lambda: _check_twice(subject, first, _build(subject, size_px)),
        lambda: _check_layers(subject, first, spec),
        lambda: check_inference(subject, _features(first), x),
        lambda: check_inference(subject, _features(_build(subject, size_px, "bfloat16")), x),
        lambda: _check_again(subject, first, size_px, spec),
        lambda: _check_other_sizes(subject, size_px, spec),
    )
    for part in parts:
        with subject.part():
            part()
    subject.settle()


def _check_again(subject: Subject, first: Classifier, size_px: int, spec: BackboneSpec) -> None:
    with seeded(0):
        again = _build(subject, size_px)
    check_saved(subject, _features(first), _features(again), _inputs(size_px, spec), spec.pixels)


def _build(subject: Subject, size_px: int, precision: str = "float32") -> Classifier:
    with subject.during(f"building it for {size_px} px in {precision}"), no_network(subject):
        classifier = build_network(subject.chosen, tiny_head(), size_px, 3, precision)
    model = classifier.backbone.model
    dtype = model.inputs[0].dtype
    subject.require(dtype == "float32", f"its input must be float32, whatever the precision. Received: {dtype}")
    channels = model.output_shape[-1]
    subject.require(isinstance(channels, int), f"its output must have a known number of channels. Received: {channels}")
    return classifier


def _features(classifier: Classifier) -> keras.Model:
    """The backbone as part of a network: fed with its input tensor, in whatever structure its own model holds it."""
    import keras

    model = classifier.backbone.model
    return keras.Model(model.inputs[0], model.output, name="features")


def _inputs(size_px: int, spec: BackboneSpec) -> NDArray[np.float32]:
    photos = np.random.default_rng(0).integers(0, 256, (_PHOTOS, size_px, size_px, 3)).astype(np.float32)
    x: NDArray[np.float32] = standardise(photos, spec.pixels)
    return np.ascontiguousarray(x)


def _check_twice(subject: Subject, first: Classifier, second: Classifier) -> None:
    names, again = ([path for path, _ in leaf_layers(c.backbone.model)] for c in (first, second))
    if names != again:
        old, new = next((a, b) for a, b in zip([*names, "nothing"], [*again, "nothing"], strict=False) if a != b)
        raise ContractError(
            f"{subject.label}: layers are named differently each time it is built ('{old}', then '{new}'); weights and freezing go by "
            "name. Name every layer, the input too."
        )
    pairs = list(zip(_drawn(first.backbone), _drawn(second.backbone), strict=True))
    words = "two builds have the same weights, so it loads them; build with initial weights and leave loading to the engine."
    subject.require(not pairs or any(not np.array_equal(a, b) for a, b in pairs), words)


def _drawn(backbone: Backbone) -> list[NDArray[np.float32]]:
    """Weights that initialisers draw at random: kernels. Biases and scales start equal."""
    return [np.asarray(weight) for weight in backbone.model.trainable_weights if len(weight.shape) > 1]


def _check_layers(subject: Subject, classifier: Classifier, spec: BackboneSpec) -> None:
    backbone = classifier.backbone
    paths = [path for path, _ in leaf_layers(backbone.model)]
    words = "two of its layers have the same path; freezing could not tell them apart."
    subject.expect(len(set(paths)) == len(paths), words)
    _check_blocks(subject, backbone, paths)
    if subject.chosen.options == type(subject.chosen.options).model_construct():
        counted = backbone.model.count_params()
        words = f"spec.parameters is {spec.parameters:,}, but with its default options it has {counted:,}."
        subject.expect(counted == spec.parameters, words)


def _check_blocks(subject: Subject, backbone: Backbone, paths: list[str]) -> None:
    positions: dict[str, int] = {}
    starts = []
    for block, members in backbone.blocks.items():
        subject.require(isinstance(members, tuple) and members, f"block '{block}' must be a tuple of layer paths.")
        for path in members:
            words = f"block '{block}' names '{path}', which is not among its layers: {', '.join(paths[:6])}, …"
            subject.require(path in paths, words)
            subject.require(path not in positions, f"'{path}' is in two blocks.")
            positions[path] = paths.index(path)
        starts.append(min(positions[path] for path in members))
    subject.expect(starts == sorted(starts), "its blocks must be in order from input to output.")


def _check_other_sizes(subject: Subject, size_px: int, spec: BackboneSpec) -> None:
    """The native size builds; one that is odd builds or is refused."""
    if spec.native_size_px != size_px:
        _build(subject, spec.native_size_px)
    odd_px = size_px + 5
    try:
        _build(subject, odd_px)
    except ContractError as exc:
        if exc.__cause__ is None or not subject.is_refusal(exc.__cause__):
            raise ContractError(
                f"{exc} A size it cannot take, such as {odd_px} px, must be refused with PluginError."
            ) from exc
