"""How one file shows another's photo, in words: mirrored, turned, a crop, with a border, part of a collage."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.align import overlap
from finetunekit.data.audit.frequencies import Float32

#: Share of a photo's area that may be missing for it to be whole.
_MISSING = 0.08
#: Degrees by which a photo may be turned without being called so.
_STRAIGHT = 2.0
#: Share of the blocks that may differ for nothing to lie on the photo.
_DIFFERENT = 0.2


@dataclass(frozen=True, slots=True)
class Relation:
    """What was done to the photo of one file to make the other.

    Attributes:
        is_mirrored: Left and right are swapped.
        quarters: Quarter turns, 0 to 3, after mirroring.
        degrees: Turned by besides, 0 to 45; 0 where it is straight.
        extent: `whole`; `crop`: the second file shows a part of the first; `frame`: the first lies in a plain frame in the second;
            `more`: the second shows the first and more; `overlap`: each shows what the other does not. `unframed`: `frame` reversed.
        is_covered: Something lies on one of the photos.
        is_inverted: Bright is dark.
    """

    is_mirrored: bool
    quarters: int
    degrees: float
    extent: str
    is_covered: bool
    is_inverted: bool

    def words(self) -> str:
        """The second file as the first one's photo."""
        words = [
            word for word in (_turn(self.is_mirrored, self.quarters), self._angle(), _EXTENTS[self.extent]) if word
        ]
        words += ["partly covered"] * self.is_covered + ["inverted"] * self.is_inverted
        return ", ".join(words) or "the same photo, saved again"

    def reversed(self) -> Relation:
        """The first file as the second one's photo."""
        quarters = self.quarters if self.is_mirrored else -self.quarters % 4
        return replace(self, quarters=quarters, extent=_REVERSED.get(self.extent, self.extent))

    def _angle(self) -> str:
        return f"rotated by {self.degrees:.0f}°" if self.degrees else ""


_EXTENTS = {
    "whole": "",
    "crop": "a crop",
    "more": "with more around it, as in a collage",
    "frame": "with a border",
    "unframed": "without its border",
    "overlap": "another part of it",
}
_REVERSED = {"crop": "more", "more": "crop", "frame": "unframed", "unframed": "frame"}


def relate(
    full_map: Float32,
    sizes: NDArray[np.float64],
    *,
    has_frame: tuple[bool, bool],
    differing: float,
    is_inverted: bool,
) -> Relation:
    """What a fitted map says.

    Args:
        full_map: `(2, 3)`, places in the second photo to places in the first, in parts of their sides.
        sizes: `(2, 2)`: (width, height) of the first photo, then of the second.
        has_frame: Whether each photo has a plain frame.
        differing: Share of what both show that differs.
        is_inverted: Whether bright was compared with dark.
    """
    linear = full_map[:, :2] * sizes[0][:, np.newaxis] / sizes[1]
    is_mirrored = bool(np.linalg.det(linear) < 0)
    if is_mirrored:
        linear = linear * np.array([-1, 1])
    angle = math.degrees(math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    quarters = round(angle / 90)
    degrees = abs(angle - 90 * quarters)
    return Relation(
        is_mirrored,
        quarters % 4,
        degrees if degrees > _STRAIGHT else 0.0,
        _extent(full_map, has_frame),
        differing > _DIFFERENT,
        is_inverted,
    )


def _extent(full_map: Float32, has_frame: tuple[bool, bool]) -> str:
    low, high = overlap(full_map[np.newaxis])
    in_second = float((high - low).prod())
    in_first = in_second * abs(float(np.linalg.det(full_map[:, :2])))
    is_part_of_second, is_part_of_first = in_second < 1 - _MISSING, in_first < 1 - _MISSING
    if is_part_of_second and is_part_of_first:
        return "overlap"
    if is_part_of_second:
        return "frame" if has_frame[1] and not has_frame[0] else "more"
    return "crop" if is_part_of_first else "whole"


def _turn(is_mirrored: bool, quarters: int) -> str:
    if is_mirrored:
        return (
            "mirrored",
            "mirrored and turned by a quarter",
            "flipped upside down",
            "mirrored and turned by a quarter",
        )[quarters]
    return ("", "turned by a quarter", "turned upside down", "turned by a quarter")[quarters]
