"""Albumentations' transforms as an augmentation that is declared not pure."""

from __future__ import annotations

import inspect
import os
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from finetunekit import Augmentation, ConfigError, Options, did_you_mean, hookimpl
from finetunekit.hookspecs import Register

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf
    from numpy.typing import NDArray


class Transform(Options):
    """One transform."""

    transform: str = Field(min_length=1, max_length=60, description="Class in albumentations, such as HorizontalFlip.")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of that class, with Albumentations' names."
    )


class AlbumentationsOptions(Options):
    """Options of `albumentations`."""

    transforms: tuple[Transform, ...] = Field(
        (Transform(transform="HorizontalFlip"),),
        min_length=1,
        max_length=50,
        description="Transforms, applied in order.",
    )


def build_albumentations(options: AlbumentationsOptions) -> tuple[Augmentation, ...]:
    """Apply transforms of Albumentations to each photo, seeded from its key.

    It is declared as not deterministic: which numbers a transform draws from its seed may change with the library's version.

    Returns:
        One step. Photos are rounded to whole levels before it.

    Raises:
        ConfigError: When photos are first augmented: if a transform is none of Albumentations', or does not take its arguments.

    Source: Buslaev et al. 2020, doi:10.3390/info11020125; https://albumentations.ai/docs/.
    """
    return (Augmentation(apply=partial(_apply, options), is_deterministic=False),)


def _apply(
    options: AlbumentationsOptions, images: tf.Tensor, labels: tf.Tensor, keys: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images `(batch, height, width, 3)` float32 in [0, 255]."""
    import tensorflow as tf

    pipeline = _build_pipeline(options.model_dump_json())
    _check_size(pipeline, int(images.shape[1]), int(images.shape[2]))
    changed = tf.numpy_function(partial(_transform_batch, pipeline), [images, keys], tf.float32)
    return tf.ensure_shape(changed, images.shape), labels


def _transform_batch(pipeline: Any, images: NDArray[np.float32], keys: NDArray[np.int64]) -> NDArray[np.float32]:
    import numpy as np

    levels = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    changed = np.empty_like(images)
    for number, (photo, key) in enumerate(zip(levels, keys, strict=True)):
        pipeline.set_random_seed(int(key) % 2**32)
        changed[number] = pipeline(image=photo)["image"]
    return changed


def _check_size(pipeline: Any, height_px: int, width_px: int) -> None:
    """On a grey photo, before training: what changes the size of a photo cannot be used."""
    import numpy as np

    grey = np.full((height_px, width_px, 3), 127, np.uint8)
    try:
        made = pipeline(image=grey)["image"]
    except (TypeError, ValueError, KeyError) as exc:
        raise ConfigError(f"albumentations: {' '.join(str(exc).split())[:200]}") from exc
    if made.shape != grey.shape:
        raise ConfigError(f"albumentations: the transforms make {grey.shape} into {made.shape}; the size must stay.")


@cache
def _build_pipeline(options_json: str) -> Any:
    """One pipeline for equal options."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or importing it asks the package index for newer versions
    import albumentations

    options = AlbumentationsOptions.model_validate_json(options_json)
    made = [_build_transform(albumentations, n, asked) for n, asked in enumerate(options.transforms)]
    return albumentations.Compose(made)


def _build_transform(library: Any, number: int, asked: Transform) -> Any:
    where = f"albumentations: transforms[{number}]"
    kinds = _usable(library)
    if asked.transform not in kinds:
        hint = did_you_mean(asked.transform, list(kinds))
        raise ConfigError(f"{where}: '{asked.transform}' is not a transform of photos in Albumentations.{hint}")
    kind = kinds[asked.transform]
    taken = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "kwargs")]
    for name in asked.arguments:
        if name not in taken:
            hint = did_you_mean(name, taken)
            raise ConfigError(f"{where}: {asked.transform} does not take '{name}'.{hint} Allowed: {', '.join(taken)}.")
    try:
        return kind(**asked.arguments)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"{where}: {asked.transform}: {' '.join(str(exc).split())[:200]}") from exc


def _usable(library: Any) -> dict[str, Any]:
    """Classes that transform a photo and need nothing but plain values; `Lambda` takes functions and is left out."""
    base = library.BasicTransform
    found = {name: kind for name, kind in vars(library).items() if inspect.isclass(kind) and issubclass(kind, base)}
    return {name: kind for name, kind in found.items() if name != "Lambda" and not inspect.isabstract(kind)}


@hookimpl
def register_augmentations(register: Register) -> None:
    """One augmentation."""
    register("albumentations", build_albumentations, AlbumentationsOptions)
