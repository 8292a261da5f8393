"""Photos and banked features kept on an accelerator, where they fit, so that no step waits for them to be sent there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BOUND_VARIABLE = "FINETUNEKIT_DEVICE_GB"


def find_accelerator() -> str | None:
    """Name of the first GPU that TensorFlow uses, such as `/device:GPU:0`; None where it uses none."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    return str(gpus[0].name) if gpus else None


def max_bytes() -> int:
    """What may be kept on an accelerator: `$FINETUNEKIT_DEVICE_GB` (default 4)."""
    return round(float(os.environ.get(BOUND_VARIABLE, "4")) * (1 << 30))


@dataclass(frozen=True, slots=True)
class DeviceViews:
    """Features of a view bank on one device.

    Attributes:
        tensors: One variable a boundary tensor, `(views, photos, ...)`.
    """

    tensors: tuple[Any, ...]

    def __len__(self) -> int:
        """Number of views."""
        return int(self.tensors[0].shape[0])

    def rows(self, view: NDArray[np.int64], photo: NDArray[np.int64]) -> list[Any]:
        """Features of one view of each photo, one tensor `(batch, ...)` a boundary tensor; see `batches.Views`."""
        where = np.stack([view, photo], axis=1)
        return [variable.gather_nd(where) for variable in self.tensors]


def keep_views(views: Sequence[tuple[NDArray[Any], ...]], device: str) -> DeviceViews:
    """Copy a bank to a device, one view at a time.

    Args:
        views: For each view, one array a boundary tensor, `(photos, ...)`.
        device: As `find_accelerator` names it.
    """
    import tensorflow as tf

    tensors = []
    for t, first in enumerate(views[0]):
        with tf.device(device):
            variable = tf.Variable(tf.zeros((len(views), *first.shape), first.dtype), trainable=False)
        for v, view in enumerate(views):
            variable[v].assign(np.asarray(view[t]))
        tensors.append(variable)
    return DeviceViews(tuple(tensors))


@dataclass(frozen=True, slots=True)
class DevicePhotos:
    """Decoded photos on one device; indexed by an array of photo numbers as a NumPy array is.

    Attributes:
        pixels: `(photos, size, size, 3)` uint8 RGB tensor.
    """

    pixels: Any

    def __getitem__(self, index: NDArray[np.int64]) -> Any:
        """Photos of these numbers, `(batch, size, size, 3)` uint8."""
        import tensorflow as tf

        return tf.gather(self.pixels, index)


def keep_photos(photos: NDArray[np.uint8], device: str) -> DevicePhotos:
    """Copy decoded photos `(photos, size, size, 3)` to a device."""
    import tensorflow as tf

    with tf.device(device):
        return DevicePhotos(tf.identity(photos))
