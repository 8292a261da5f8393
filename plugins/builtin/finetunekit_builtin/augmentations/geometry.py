"""Flips and random resized crops: affine, so that consecutive ones are one resampling."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from finetunekit import Augmentation, Options, draw_uniform

from .boxes import COLUMNS, AreaRange, Boxes, RatioRange, draw_boxes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FlipOptions(Options):
    """Options of `flip`."""

    horizontal: float = Field(0.5, ge=0, le=1, description="Probability of mirroring left and right.")
    vertical: float = Field(0.0, ge=0, le=1, description="Probability of mirroring top and bottom.")


class RandomResizedCropOptions(Options):
    """Options of `random_resized_crop`."""

    area: AreaRange = Field((0.08, 1.0), description="Fraction of the photo's area that is kept: lowest and highest.")
    ratio: RatioRange = Field((3 / 4, 4 / 3), description="Width / height of the crop: lowest and highest.")


def build_flip(options: FlipOptions) -> tuple[Augmentation, ...]:
    """Mirror photos at random; exact, no pixel is interpolated.

    Source: RandomHorizontalFlip and RandomVerticalFlip of torchvision 0.20, transforms/transforms.py.
    """
    return (Augmentation(affine=partial(_flip_matrices, options)),)


def build_random_resized_crop(options: RandomResizedCropOptions) -> tuple[Augmentation, ...]:
    """Cut out a part of random area and aspect ratio and stretch it to the size of the photo, bilinearly.

    At the crop's border up to half a pixel beyond it is read, where torchvision repeats the border. The photo was resized to
    `pixels.size_px` before: a crop of a quarter of its area has half the resolution.

    Source: Szegedy et al. 2015, section 6, arXiv:1409.4842; draws as RandomResizedCrop.get_params of torchvision 0.20.
    """
    return (Augmentation(affine=partial(_crop_matrices, options)),)


def _flip_matrices(options: FlipOptions, keys: NDArray[np.int64], height_px: int, width_px: int) -> NDArray[np.float64]:
    unit = draw_uniform(keys, 2)
    across, down = (unit[:, 0] < options.horizontal) * 1.0, (unit[:, 1] < options.vertical) * 1.0
    return _scaled(1 - 2 * down, down * (height_px - 1), 1 - 2 * across, across * (width_px - 1))


def _crop_matrices(
    options: RandomResizedCropOptions, keys: NDArray[np.int64], height_px: int, width_px: int
) -> NDArray[np.float64]:
    box = draw_crops(options, keys, height_px, width_px)
    down, across = box.height / height_px, box.width / width_px
    # the centre of output pixel r lies (r + 1/2) · height / height_px below the top of the crop
    return _scaled(down, box.top + down / 2 - 0.5, across, box.left + across / 2 - 0.5)


def draw_crops(options: RandomResizedCropOptions, keys: NDArray[np.int64], height_px: int, width_px: int) -> Boxes:
    """The crop of each photo; where no attempt fits, the largest central one whose ratio is in range."""
    import numpy as np

    unit = draw_uniform(keys, COLUMNS)
    drawn = draw_boxes(np, unit, height_px, width_px, options.area, options.ratio, spare_px=0)
    low, high = options.ratio
    whole = width_px / height_px
    width = np.rint(height_px * high) if whole > high else width_px
    height = np.rint(width_px / low) if whole < low else height_px
    places = (
        ("top", (height_px - height) // 2),
        ("left", (width_px - width) // 2),
        ("height", height),
        ("width", width),
    )
    sides = {name: np.where(drawn.is_found, getattr(drawn, name), float(value)) for name, value in places}
    return Boxes(**sides, is_found=drawn.is_found)


def _scaled(down: Any, top: Any, across: Any, left: Any) -> NDArray[np.float64]:
    """Matrices `(batch, 3, 3)`: input row = `down` · output row + `top`, input column alike."""
    import numpy as np

    matrices = np.zeros((len(down), 3, 3))
    matrices[:, 0, 0], matrices[:, 0, 2] = down, top
    matrices[:, 1, 1], matrices[:, 1, 2] = across, left
    matrices[:, 2, 2] = 1.0
    return matrices
