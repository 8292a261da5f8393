"""The loss of a stage: cross-entropy, with label smoothing, and classes weighted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.training_sections import FitStage
from finetunekit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import keras


def build_loss(stage: FitStage) -> keras.losses.Loss:
    """Cross-entropy of logits, Keras' own.

    Source of label smoothing: Szegedy et al. 2016, section 7, arXiv:1512.00567.
    """
    import keras

    return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=stage.label_smoothing)


def class_weights(stage: FitStage, labels: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.float32] | None:
    """Weight of each class in the loss of one stage.

    Args:
        stage: Its section of the config.
        labels: Of the training photos, `(photos,)`.
        classes: Class names, position is the index.

    Returns:
        `(classes,)` float32, or None where every photo counts alike. Balanced weights have the mean 1 over the training photos.

    Raises:
        ConfigError: If a name is not a class.

    Source of balanced weights: photos / (classes · photos of the class), King and Zeng 2001, as in scikit-learn.
    """
    section = stage.class_weights
    if section.mode == "none":
        return None
    if section.mode == "balanced":
        counts = np.bincount(labels, minlength=len(classes))
        return (len(labels) / (len(classes) * np.maximum(counts, 1))).astype(np.float32)
    for name in section.named:
        if name not in classes:
            listed = ", ".join(classes)
            raise ConfigError(
                f"stage '{stage.name}': class_weights.named: '{name}' is not a class of these photos ({listed})."
                f"{did_you_mean(name, classes)}"
            )
    return np.array([section.named.get(name, 1.0) for name in classes], np.float32)


def sample_weights(y: Any, weights: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """Weight of each photo of a batch: of its class, or of its classes in the proportion in which it was mixed.

    Args:
        y: One-hot or mixed labels, `(batch, classes)` float32.
        weights: From `class_weights`.

    Returns:
        `(batch,)` float32; None where every photo counts alike.
    """
    return None if weights is None else np.asarray(y, np.float32) @ weights
