"""The contract of an augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.plan import Chosen
from finetunekit.data.augmentation import AugmentComponent, Augmenter
from finetunekit.plugins.components import call_builder
from finetunekit.system.environment import start_tensorflow
from finetunekit.system.keyed_random import derive_keys
from finetunekit.testing.contract import Subject, choose
from finetunekit.types import Augmentation, Builder, Options

_PHOTOS, _HEIGHT_PX, _WIDTH_PX, _CLASSES = 32, 9, 12, 3
_LEVELS = 0.01  # what a graph may change by rounding, in grey levels

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def check_augmentation(build: Builder, options: Options | None = None) -> None:
    """Check an augmentation on 32 small photos that are not square, black, white and noisy ones among them.

    Args:
        build: The builder that the plugin registers.
        options: An instance of its options; default: `Options()`. Give options that switch something on.

    Raises:
        ContractError: If pixels or labels change shape or dtype, pixels leave [0, 255], labels do not sum to 1; if the same keys give
            something else, or other keys the same; if a call, a graph and tf.data disagree; if a step of scope `photo` lets one photo
            depend on another; if an affine step's matrices are not finite, invertible `(batch, 3, 3)` float64 or its keys are changed;
            or if its options are not as they should be.
    """
    verify_augmentation(choose("augmentation", build, options))


def verify_augmentation(chosen: Chosen) -> None:
    """`check_augmentation` of a component as a plan holds it."""
    start_tensorflow()
    subject = Subject(chosen)
    with subject.during("building it"):
        steps = call_builder(chosen)
        subject.require(
            isinstance(steps, tuple), f"the builder must return a tuple of Augmentation, got {steps!r:.80}."
        )
        augmenter = Augmenter([AugmentComponent(0, subject.label, steps)])
    for number, step in enumerate(steps):
        _check_declared(subject, number, step)
    keys = derive_keys(0, np.arange(_PHOTOS))
    with subject.part():
        _check_matrices(subject, steps, keys)
    subject.settle()
    first = _augment(subject, augmenter, _photos(), _labels(), keys)
    _check_ranges(subject, first)
    checks = [_check_pure, _check_everywhere] if augmenter.is_deterministic else []
    checks += [_check_alone] if augmenter.is_deterministic and augmenter.scope == "photo" else []
    for check in checks:
        with subject.part():
            check(subject, augmenter, first, keys)
    subject.settle()


def _photos() -> NDArray[np.float32]:
    """Whole levels, as decoded: noise, then a black, a white and a graded photo."""
    shape = (_PHOTOS, _HEIGHT_PX, _WIDTH_PX, 3)
    photos = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    photos[1], photos[2] = 0.0, 255.0
    photos[3] = np.linspace(0, 255, _WIDTH_PX).round()[:, np.newaxis]
    return photos


def _labels() -> NDArray[np.float32]:
    labels: NDArray[np.float32] = np.eye(_CLASSES, dtype=np.float32)[np.arange(_PHOTOS) % _CLASSES]
    return labels


def _check_declared(subject: Subject, number: int, step: Augmentation) -> None:
    scopes = ("photo", "batch")
    words = f"step {number}: scope must be 'photo' or 'batch'. Received: {step.scope!r}"
    subject.expect(step.scope in scopes, words)
    words = f"step {number}: an affine step changes one photo at a time; its scope must be 'photo'."
    subject.expect(step.affine is None or step.scope == "photo", words)


def _check_matrices(subject: Subject, steps: tuple[Augmentation, ...], keys: NDArray[np.int64]) -> None:
    for number, step in enumerate(steps):
        if step.affine is None:
            continue
        own, alone = keys.copy(), keys[:1].copy()
        with subject.during(f"drawing the matrices of step {number}"):
            matrices = step.affine(own, _HEIGHT_PX, _WIDTH_PX)
            single = step.affine(alone, _HEIGHT_PX, _WIDTH_PX)
        subject.expect(
            np.array_equal(own, keys), f"step {number}: affine changes the keys it is given; copy them first."
        )
        shape = (_PHOTOS, 3, 3)
        is_stack = isinstance(matrices, np.ndarray) and matrices.shape == shape and matrices.dtype == np.float64
        received = f"{getattr(matrices, 'dtype', '')} {getattr(matrices, 'shape', type(matrices).__name__)}".strip()
        words = f"step {number}: affine must return a float64 array {shape}. Received: {received}"
        subject.require(is_stack, words)
        is_affine = np.isfinite(matrices).all() and (matrices[:, 2] == [0, 0, 1]).all()
        words = f"step {number}: affine must return finite matrices whose last row is 0, 0, 1."
        subject.require(is_affine, words)
        words = f"step {number}: affine returns a matrix that flattens the photo to a line (its determinant is 0)."
        subject.expect((np.abs(np.linalg.det(matrices)) > 1e-6).all(), words)
        words = (
            f"step {number}: the matrix of a photo depends on the other keys of the batch; draw from its own key only."
        )
        subject.expect(np.allclose(single, matrices[:1]), words)


def _augment(subject: Subject, augmenter: Augmenter, photos: Any, labels: Any, keys: NDArray[np.int64]) -> Pair:
    with subject.during(f"augmenting {len(photos)} photos"):
        images, mixed = augmenter(photos, labels, keys.copy())
    return np.asarray(images), np.asarray(mixed)


def _check_ranges(subject: Subject, changed: Pair) -> None:
    images, labels = changed
    subject.expect(np.isfinite(images).all(), "makes pixels that are not finite.")
    low, high = float(images.min()), float(images.max())
    is_in_range = low >= -_LEVELS and high <= 255 + _LEVELS
    subject.expect(
        is_in_range or not np.isfinite(images).all(),
        f"pixels must stay in [0, 255]; clip them. Received: {low:.4g} to {high:.4g}",
    )
    is_mix = (labels >= -1e-6).all() and np.allclose(labels.sum(axis=1), 1, atol=1e-4)
    words = f"labels must stay >= 0 and sum to 1 for each photo. Received: {labels[~_sums(labels)][:1].tolist()}"
    subject.expect(is_mix, words)


def _sums(labels: NDArray[np.float32]) -> NDArray[np.bool_]:
    good: NDArray[np.bool_] = np.isclose(labels.sum(axis=1), 1, atol=1e-4) & (labels >= -1e-6).all(axis=1)
    return good


def _check_pure(subject: Subject, augmenter: Augmenter, first: Pair, keys: NDArray[np.int64]) -> None:
    again = _augment(subject, augmenter, _photos(), _labels(), keys)
    words = (
        "the same keys gave something else the second time; draw from keys only (finetunekit.draw_uniform), or say "
        "is_deterministic=False."
    )
    subject.expect(_is_same(first, again), words)
    other = _augment(subject, augmenter, _photos(), _labels(), derive_keys(1, np.arange(_PHOTOS)))
    is_identity = _is_same(first, (_photos(), _labels()))
    words = f"{_PHOTOS} other keys gave the same photos; each draw of a photo must be its own, drawn from its key."
    subject.require(is_identity or not _is_same(first, other, levels=0), words)


def _is_same(first: Pair, second: Pair, levels: float = _LEVELS) -> bool:
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=0, atol=tolerance)
        for a, b, tolerance in zip(first, second, (levels, levels / 255), strict=True)
    )


def _check_everywhere(subject: Subject, augmenter: Augmenter, first: Pair, keys: NDArray[np.int64]) -> None:
    """`first` came from a traced function."""
    import tensorflow as tf

    prepared = augmenter.prepare(keys, _HEIGHT_PX, _WIDTH_PX)
    parts = (_photos(), _labels(), prepared.matrices, prepared.keys)
    transform = tf.autograph.experimental.do_not_convert(augmenter.transform)
    with subject.during("augmenting outside a graph"):
        eager = tuple(np.asarray(tensor) for tensor in augmenter.transform(*map(tf.constant, parts)))
    with subject.during("augmenting inside tf.data"):
        dataset = tf.data.Dataset.from_tensor_slices(parts).batch(_PHOTOS).map(transform)
        mapped = tuple(np.asarray(tensor) for tensor in next(iter(dataset)))
    for where, changed in (("outside a graph", eager), ("inside tf.data", mapped)):
        words = f"gives other pixels or labels {where} than in a traced function; use TensorFlow operations on the keys only."
        subject.expect(_is_same(first, (changed[0], changed[1])), words)


def _check_alone(subject: Subject, augmenter: Augmenter, first: Pair, keys: NDArray[np.int64]) -> None:
    alone = _augment(subject, augmenter, _photos()[:1], _labels()[:1], keys[:1])
    words = (
        "what becomes of a photo depends on the other photos of the batch; say scope='batch', or change each by itself."
    )
    subject.require(_is_same((first[0][:1], first[1][:1]), alone), words)
