"""What a plan says is loaded: pretrained weights into its backbone, and the photos of a split as it feeds them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from finetunekit.config.plan import Plan
from finetunekit.system.progress import Progress

if TYPE_CHECKING:
    from finetunekit.data.index import PhotoIndex


def decode_split(plan: Plan, index: PhotoIndex, split: str, progress: Progress) -> DecodedPhotos:
    """Decode the photos of one split as the plan feeds them.

    Raises:
        DataError: If a photo cannot be read.
    """
    from finetunekit.data.decode import load_photos

    photos, pixels = index.split(split), plan.config.pixels
    loaded = load_photos(
        [photo.path for photo in photos],
        size_px=pixels.size_px,
        resize=pixels.resize,
        fit=pixels.fit,
        source_px=pixels.source_px,
        max_pixels=plan.config.data.max_photo_pixels,
        progress=progress.counter(f"decoding {split} photos"),
        say=progress.say,
    )
    groups = tuple(photo.group or photo.sha256 for photo in photos)
    return DecodedPhotos(loaded, index.labels(split), tuple(photo.sha256 for photo in photos), groups)


@dataclass(frozen=True, slots=True)
class DecodedPhotos:
    """Decoded photos of one split.

    Attributes:
        pixels: `(photos, size, size, 3)` uint8 RGB.
        labels: `(photos,)` int64.
        sha256: Of each file.
        groups: Of each photo, what cross-validation must not tear apart: its group, else its content. Empty: each photo by itself.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sha256: tuple[str, ...]
    groups: tuple[str, ...] = ()

    def one_hot(self, num_classes: int) -> NDArray[np.float32]:
        """Labels, `(photos, classes)` float32."""
        rows: NDArray[np.float32] = np.eye(num_classes, dtype=np.float32)[self.labels]
        return rows

    def take(self, indices: Sequence[int]) -> DecodedPhotos:
        """Those at these places."""
        return DecodedPhotos(
            self.pixels[indices],
            self.labels[indices],
            tuple(self.sha256[i] for i in indices),
            tuple(self.groups[i] for i in indices) if self.groups else (),
        )

    def with_pixels(self, pixels: NDArray[np.uint8]) -> DecodedPhotos:
        """These photos with other pixels, such as their mirror images; cached features know the two apart."""
        if pixels is self.pixels:
            return self
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        return replace(self, pixels=pixels, sha256=tuple(f"{sha} as {digest}" for sha in self.sha256))
