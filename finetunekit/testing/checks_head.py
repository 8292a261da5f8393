"""The contract of a head."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.plan import Chosen
from finetunekit.errors import FinetuneKitError, PluginError
from finetunekit.models.classifier import Classifier
from finetunekit.system.environment import seeded, start_tensorflow
from finetunekit.system.formatting import one_line
from finetunekit.testing.contract import ContractError, Subject, choose
from finetunekit.testing.networks import (
    KINDS,
    PRECISIONS,
    SIZE_PX,
    Kind,
    build_network,
    check_inference,
    check_saved,
    tiny_backbone,
)
from finetunekit.types import Builder, Options

if TYPE_CHECKING:
    import keras

_CLASSES = (2, 7)
_PHOTOS = 4


def check_head(build: Builder, options: Options | None = None, *, kinds: Sequence[Kind] | None = None) -> None:
    """Check a head on tiny features of every kind it takes, with 2 and 7 classes, in float32 and bfloat16.

    Args:
        build: The builder that the plugin registers.
        options: An instance of its options; default: `Options()`.
        kinds: Kinds of features that it must take; default: at least one. The others it must refuse with `PluginError`.

    Raises:
        ContractError: If logits are not `(batch, classes)` float32, are probabilities, are not finite, are drawn at random at inference
            or depend on the other photos; if a step of SGD leaves every weight as it was; if it does not take its
            weights back and say the same where it is built again; or if its options are not as they should be.
    """
    verify_head(choose("head", build, options), kinds)


def verify_head(chosen: Chosen, kinds: Sequence[Kind] | None = None) -> None:
    """`check_head` of a component as a plan holds it."""
    start_tensorflow()
    subject = Subject(chosen)
    accepted = [kind for kind in KINDS if _is_accepted(subject, kind, is_due=kinds is not None and kind in kinds)]
    subject.require(accepted, "refuses map, tokens and vector alike; it must take at least one kind of features.")
    for kind in accepted:
        with subject.part():
            for num_classes, precision in itertools.product(_CLASSES, PRECISIONS):
                _check_logits(subject, kind, num_classes, precision)
        with subject.part():
            _check_training(subject, kind)
    subject.settle()


def _is_accepted(subject: Subject, kind: Kind, *, is_due: bool) -> bool:
    try:
        _build(subject, kind, _CLASSES[0], "float32")
    except FinetuneKitError as exc:
        if subject.is_refusal(exc) and isinstance(exc, PluginError) and not is_due:
            return False
        text = one_line(exc)
        text = text if text.startswith(subject.label) else f"{subject.label}: refuses {kind} features: {text}"
        hint = "" if is_due else f" If it does not take {kind} features, it must say so with PluginError."
        raise ContractError(text + hint) from exc
    return True


def _build(subject: Subject, kind: Kind, num_classes: int, precision: str) -> Classifier:
    return build_network(tiny_backbone(kind), subject.chosen, SIZE_PX, num_classes, precision)


def _inputs() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((_PHOTOS, SIZE_PX, SIZE_PX, 3), dtype=np.float32)


def _check_logits(subject: Subject, kind: Kind, num_classes: int, precision: str) -> None:
    with subject.during(f"building it on {kind} features for {num_classes} classes in {precision}"):
        classifier = _build(subject, kind, num_classes, precision)
    logits = check_inference(subject, classifier.logits, _inputs())
    is_softmax = (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-3)
    subject.expect(not is_softmax, "returns probabilities; return logits and leave the softmax to the engine.")


def _check_training(subject: Subject, kind: Kind) -> None:
    with subject.during(f"training one step on {kind} features"):
        with seeded(0):
            classifier = _build(subject, kind, _CLASSES[1], "float32")
        weights = _weights_of_head(classifier)
        before = [np.asarray(weight) for weight in weights]
        loss = _train_one_step(classifier.logits)
    subject.expect(np.isfinite(loss), f"the loss after one step is not finite. Received: {loss}")
    is_moved = any(not np.array_equal(old, np.asarray(new)) for old, new in zip(before, weights, strict=True))
    words = "no weight of it moved in a step of SGD; a head needs weights that train, reached by the gradient."
    subject.expect(is_moved, words)
    with subject.during(f"building it again on {kind} features"), seeded(0):
        again = _build(subject, kind, _CLASSES[1], "float32")
    check_saved(subject, classifier.logits, again.logits, _inputs())


def _weights_of_head(classifier: Classifier) -> list[Any]:
    backbone = {id(weight) for weight in classifier.backbone.model.weights}
    return [weight for weight in classifier.logits.trainable_weights if id(weight) not in backbone]


def _train_one_step(model: keras.Model) -> float:
    import keras

    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)  # one step is not worth a graph
    labels = np.eye(_CLASSES[1], dtype=np.float32)[np.arange(_PHOTOS) % _CLASSES[1]]
    return float(model.train_on_batch(_inputs(), labels))
