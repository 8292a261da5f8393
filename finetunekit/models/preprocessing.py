"""From RGB pixels in [0, 255] to what the run feeds its network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetunekit.types import PixelContract

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def standardise(images: Any, contract: PixelContract) -> Any:
    """Apply a pixel contract.

    Args:
        images: `(batch, height, width, 3)` float32 RGB in [0, 255]; NumPy array or TensorFlow tensor.
        contract: Order, scale, mean and std.

    Returns:
        The same shape, dtype and kind: `(order(images) * scale - mean) / std`. Steps that would change nothing are left out, so that
        `zero_to_one` is bit-equal to `ImageDataGenerator(rescale=1 / 255)`.
    """
    import numpy as np

    if contract.order == "bgr":
        images = images[..., ::-1]
    if not isinstance(images, np.ndarray):
        return _in_steps(images, contract, 1)
    *outer, width, channels = images.shape
    # an innermost loop over three channels would take ten times as long
    rows = images.reshape(*outer, width * channels)
    return _in_steps(rows, contract, width).reshape(images.shape)


def _in_steps(images: Any, contract: PixelContract, repeats: int) -> Any:
    """A contract's scale, mean and std, on images whose last axis is the channels so many times."""
    import numpy as np

    if contract.scale != 1:
        images = images * np.float32(contract.scale)
    if any(contract.mean):
        images = images - np.tile(np.asarray(contract.mean, np.float32), repeats)
    if any(value != 1 for value in contract.std):
        images = images / np.tile(np.asarray(contract.std, np.float32), repeats)
    return images


def as_input(photos: NDArray[np.uint8], contract: PixelContract) -> NDArray[np.float32]:
    """Un-augmented photos `(batch, height, width, 3)` uint8 RGB as the network's float32 input of the same shape."""
    import numpy as np

    standardised: NDArray[np.float32] = standardise(photos.astype(np.float32), contract)
    return np.ascontiguousarray(standardised)
