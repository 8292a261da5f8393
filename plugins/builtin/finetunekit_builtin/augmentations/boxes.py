"""Random boxes inside a photo, as torchvision draws them: a few attempts at an area and an aspect ratio, the first that fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field

ATTEMPTS = 10
#: Numbers drawn a box: an area and a ratio for each attempt, then its place.
COLUMNS = 2 * ATTEMPTS + 2


def _check_ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the lower bound {pair[0]} is above the upper bound {pair[1]}")
    return pair


_Part = Annotated[float, Field(gt=0, le=1)]
_Ratio = Annotated[float, Field(gt=0, le=100)]
#: Lowest and highest part of the photo's area.
AreaRange = Annotated[tuple[_Part, _Part], AfterValidator(_check_ascending)]
#: Lowest and highest aspect ratio.
RatioRange = Annotated[tuple[_Ratio, _Ratio], AfterValidator(_check_ascending)]


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """One box a photo: `(batch,)` float64 each, whole pixels; `is_found` is False where no attempt fitted."""

    top: Any
    left: Any
    height: Any
    width: Any
    is_found: Any


def draw_boxes(
    xp: Any, unit: Any, height_px: int, width_px: int, area: AreaRange, ratio: RatioRange, *, spare_px: int
) -> Boxes:
    """Draw one box for each photo.

    Args:
        xp: `numpy`, or `tensorflow.experimental.numpy` for tensors.
        unit: `(batch, COLUMNS)` float64, uniform in [0, 1).
        height_px: Height of the photos.
        width_px: Width of the photos.
        area: Range of the box's area, as a part of the photo's, uniform.
        ratio: Range of width / height, uniform in its logarithm.
        spare_px: How much shorter than the photo's a side has to be.
    """
    areas = (area[0] + (area[1] - area[0]) * unit[:, :ATTEMPTS]) * (height_px * width_px)
    ratios = ratio[0] * (ratio[1] / ratio[0]) ** unit[:, ATTEMPTS:-2]
    widths, heights = xp.floor(xp.sqrt(areas * ratios) + 0.5), xp.floor(xp.sqrt(areas / ratios) + 0.5)
    fits = (widths >= 1) & (heights >= 1) & (widths <= width_px - spare_px) & (heights <= height_px - spare_px)
    first = xp.argmax(xp.where(fits, 1, 0), axis=1)[:, None]
    height = xp.take_along_axis(heights, first, 1)[:, 0]
    width = xp.take_along_axis(widths, first, 1)[:, 0]
    top = xp.floor(unit[:, -2] * (height_px - height + 1))
    left = xp.floor(unit[:, -1] * (width_px - width + 1))
    return Boxes(top, left, height, width, xp.any(fits, axis=1))
