"""Augmentation steps of all components → one pure function of pixels and keys, with as few resamplings as can be.

Random matrices are drawn in numpy from keys (`Augmenter.prepare`), for one batch or for a whole epoch at once;
what is done to pixels (`Augmenter.transform`) is traceable and runs alike in a call, in a graph and in tf.data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.resampling import resample
from finetunekit.errors import FinetuneKitError, PluginError
from finetunekit.system.keyed_random import derive_keys
from finetunekit.types import Augmentation

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, slots=True)
class AugmentComponent:
    """One entry of the YAML list `augment` after its builder was called.

    Attributes:
        index: Its place in the list; its keys derive from it.
        label: How errors name it, such as `augment[0] 'keras_generator' (finetunekit 0.1.0)`.
        steps: What the builder returned.
    """

    index: int
    label: str
    steps: tuple[Augmentation, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PreparedDraws:
    """The random part of augmenting some draws. Slices along the first axis, also in tf.data.

    Attributes:
        matrices: `(draws, resamplings, 3, 3)` float64, output (row, column, 1) → input (row, column, 1).
        keys: `(draws, components)` int64, each component's own keys.
    """

    matrices: NDArray[np.float64]
    keys: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Step:
    column: int
    label: str
    step: Augmentation


#: Consecutive affine steps with one fill, or a single step that changes pixels by itself.
_Stage: TypeAlias = tuple[_Step, ...]


class Augmenter:
    """All augmentation of a run. Pure: equal photos and keys give equal pixels.

    Consecutive affine steps with equal `fill`, across components too, are multiplied and resampled once,
    bilinearly, in float32.
    """

    def __init__(self, components: Sequence[AugmentComponent]) -> None:
        """Fuse the steps.

        Args:
            components: In the order of the YAML list.

        Raises:
            PluginError: If a component's steps are not what the hook allows.
        """
        for component in components:
            _check_steps(component)
        self._indices = tuple(component.index for component in components)
        self._stages = _fuse(components)
        self._graphs: dict[tuple[int, int, int], Callable[..., Any]] = {}

    @property
    def is_identity(self) -> bool:
        """Whether nothing is changed, so that photos need no view of their own."""
        return not self._stages

    @property
    def is_deterministic(self) -> bool:
        """Whether every step draws from keys only, so that views can be made again."""
        return all(part.step.is_deterministic for stage in self._stages for part in stage)

    @property
    def scope(self) -> Literal["photo", "batch"]:
        """`batch` if any step mixes photos."""
        return "batch" if any(part.step.scope == "batch" for stage in self._stages for part in stage) else "photo"

    def prepare(self, keys: NDArray[np.int64], height_px: int, width_px: int) -> PreparedDraws:
        """Draw every random matrix, in numpy.

        Args:
            keys: `(draws,)` int64.
            height_px: Height of the photos.
            width_px: Width of the photos.

        Returns:
            What `transform` needs, draw by draw.

        Raises:
            PluginError: If a step raises, or its matrices are not what the hook allows.
        """
        columns = [derive_keys(keys, "component", index) for index in self._indices]
        own_keys = np.stack(columns, axis=1) if columns else np.zeros((len(keys), 0), np.int64)
        matrices = [_matrices(stage, own_keys, height_px, width_px) for stage in self._stages if _is_affine(stage)]
        stacked = np.stack(matrices, axis=1) if matrices else np.zeros((len(keys), 0, 3, 3))
        return PreparedDraws(stacked, own_keys)

    def transform(self, images: tf.Tensor, labels: tf.Tensor, matrices: tf.Tensor, keys: tf.Tensor) -> tuple[Any, Any]:
        """Change pixels. Traceable, so it can be mapped over a batched tf.data.Dataset with AutoGraph off.

        Args:
            images: `(batch, height, width, 3)` float32 in [0, 255], height and width static.
            labels: `(batch, classes)` float32.
            matrices: `(batch, resamplings, 3, 3)` float64, of `prepare`.
            keys: `(batch, components)` int64, of `prepare`.

        Returns:
            Images and labels, shapes and dtypes as given.

        Raises:
            PluginError: If a step raises, or returns another shape or dtype than it was given.
        """
        resampling = 0
        for stage in self._stages:
            if _is_affine(stage):
                images = resample(images, matrices[:, resampling], stage[0].step.fill)
                resampling += 1
            else:
                images, labels = _apply(stage[0], images, labels, keys)
        return images, labels

    def __call__(self, images: Any, labels: Any, keys: Any) -> tuple[Any, Any]:
        """Augment one batch.

        Args:
            images: `(batch, height, width, 3)` uint8 or float32 in [0, 255], array or tensor.
            labels: `(batch, classes)` float32, array or tensor.
            keys: `(batch,)` int64, array or eager tensor.

        Returns:
            Images, `(batch, height, width, 3)` float32, neither rounded nor clipped, and labels,
            `(batch, classes)` float32, as tensors.

        Raises:
            PluginError: If a step raises, or returns something that the hook does not allow.
        """
        import tensorflow as tf

        images, labels = tf.cast(images, tf.float32), tf.cast(labels, tf.float32)
        if self.is_identity:
            return images, labels
        height_px, width_px = int(images.shape[1]), int(images.shape[2])
        prepared = self.prepare(np.asarray(keys), height_px, width_px)
        graph = self._graph(height_px, width_px, int(labels.shape[1]))
        changed = graph(images, labels, tf.constant(prepared.matrices), tf.constant(prepared.keys))
        self._check_batch(len(images), changed)
        return changed[0], changed[1]

    def trace(self, height_px: int, width_px: int, classes: int) -> None:
        """Trace the steps that change pixels, so that what is wrong with one shows before anything is computed.

        Raises:
            PluginError: If a step raises, or returns something that the hook does not allow.
            ConfigError: If a step refuses its options.
        """
        if not self.is_identity:
            self._graph(height_px, width_px, classes).get_concrete_function()  # type: ignore[attr-defined]

    def _graph(self, height_px: int, width_px: int, classes: int) -> Callable[..., Any]:
        """The traced `transform`, one per shape of photo whatever the batch size."""
        import tensorflow as tf

        shape = (height_px, width_px, classes)
        if shape not in self._graphs:
            resamplings = sum(_is_affine(stage) for stage in self._stages)
            signature = [
                tf.TensorSpec((None, height_px, width_px, 3), tf.float32),
                tf.TensorSpec((None, classes), tf.float32),
                tf.TensorSpec((None, resamplings, 3, 3), tf.float64),
                tf.TensorSpec((None, len(self._indices)), tf.int64),
            ]
            # AutoGraph would rewrap the errors raised while tracing and lose whose they are.
            self._graphs[shape] = tf.function(self.transform, input_signature=signature, autograph=False)
        return self._graphs[shape]

    def _check_batch(self, batch: int, changed: tuple[Any, Any]) -> None:
        if any(len(tensor) != batch for tensor in changed):
            labels = dict.fromkeys(stage[0].label for stage in self._stages if not _is_affine(stage))
            sizes = f"{len(changed[0])} images and {len(changed[1])} labels"
            raise PluginError(f"{', '.join(labels)}: returned {sizes} for a batch of {batch}; they must be as many.")


def _check_steps(component: AugmentComponent) -> None:
    if not isinstance(component.steps, tuple):
        raise PluginError(
            f"{component.label}: the builder must return a tuple of Augmentation, got {component.steps!r:.80}."
        )
    for number, step in enumerate(component.steps):
        if not isinstance(step, Augmentation):
            raise PluginError(f"{component.label}: step {number} must be an Augmentation, got {step!r:.80}.")
        if (step.affine is None) == (step.apply is None):
            raise PluginError(f"{component.label}: step {number} must give exactly one of `affine` and `apply`.")


def _is_affine(stage: _Stage) -> bool:
    return stage[0].step.affine is not None


def _fuse(components: Sequence[AugmentComponent]) -> tuple[_Stage, ...]:
    stages: list[_Stage] = []
    for column, component in enumerate(components):
        for step in component.steps:
            part = _Step(column, component.label, step)
            if stages and step.affine and _is_affine(stages[-1]) and stages[-1][0].step.fill == step.fill:
                stages[-1] += (part,)
            else:
                stages.append((part,))
    return tuple(stages)


@contextmanager
def _blame(part: _Step, what: str) -> Iterator[None]:
    try:
        yield
    except FinetuneKitError:
        raise
    except Exception as error:
        raise PluginError(f"{part.label}: {what} raised {type(error).__name__}: {error}") from error


def _matrices(stage: _Stage, keys: NDArray[np.int64], height_px: int, width_px: int) -> NDArray[np.float64]:
    """Matrices of one resampling, `(draws, 3, 3)`. They take outputs to inputs, so the first step stands leftmost."""
    product = np.broadcast_to(np.eye(3), (len(keys), 3, 3))
    for part in stage:
        product = product @ _checked_matrices(part, keys[:, part.column], height_px, width_px)
    return product


def _checked_matrices(part: _Step, keys: NDArray[np.int64], height_px: int, width_px: int) -> NDArray[np.float64]:
    assert part.step.affine is not None
    with _blame(part, "affine"):
        matrices = part.step.affine(keys, height_px, width_px)
    shape = (len(keys), 3, 3)
    if not isinstance(matrices, np.ndarray) or matrices.shape != shape or matrices.dtype != np.float64:
        raise PluginError(f"{part.label}: affine must return a float64 array {shape}, got {_describe(matrices)}.")
    if not np.isfinite(matrices).all() or (matrices[:, 2] != [0.0, 0.0, 1.0]).any():
        raise PluginError(f"{part.label}: affine must return finite matrices whose last row is 0, 0, 1.")
    return matrices


def _apply(part: _Step, images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor) -> tuple[Any, Any]:
    assert part.step.apply is not None
    with _blame(part, "apply"):
        changed = part.step.apply(images, labels, keys[:, part.column])
    if not isinstance(changed, tuple) or len(changed) != 2:
        raise PluginError(f"{part.label}: apply must return (images, labels), got {_describe(changed)}.")
    return _checked(part, "images", changed[0], images), _checked(part, "labels", changed[1], labels)


def _checked(part: _Step, what: str, changed: Any, given: tf.Tensor) -> Any:
    import tensorflow as tf

    shape = (None, *given.shape[1:])
    if not tf.is_tensor(changed) or changed.dtype != tf.float32 or not changed.shape.is_compatible_with(shape):
        expected = f"a float32 tensor {shape}".replace("None", "batch")
        raise PluginError(f"{part.label}: apply must return {what} as {expected}, got {_describe(changed)}.")
    return tf.ensure_shape(changed, shape)


def _describe(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{getattr(value.dtype, 'name', value.dtype)} {tuple(value.shape)}"
    return type(value).__name__
