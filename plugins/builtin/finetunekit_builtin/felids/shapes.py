"""Vector shapes as arrays of points, and the scene that collects and projects them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Colour = tuple[float, float, float]

_BLADE_T = np.linspace(0.0, 1.0, 6)
_BLADE_WIDTH = np.sin(np.pi * _BLADE_T**0.8)
_LOCK_WIDTH = np.sqrt(1.0 - _BLADE_T) * (1.0 - 0.35 * _BLADE_T)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Blend two colours; `share` in [0, 1] is the weight of the second."""
    keep = 1.0 - share
    return tuple(keep * a + share * b for a, b in zip(first, second, strict=True))  # type: ignore[return-value]


def shade(colour: Colour, factor: float) -> Colour:
    """Scale a colour's brightness."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


@lru_cache(maxsize=16)
def _circle(points: int) -> Points:
    angle = np.linspace(0.0, 2 * np.pi, points, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float, *, tilt: float = 0.0, points: int = 20) -> Points:
    """Outline of an ellipse, `(points, 2)`; `tilt` in radians."""
    c, s = math.cos(tilt), math.sin(tilt)
    outline: Points = _circle(points) @ np.array([[rx * c, rx * s], [-ry * s, ry * c]]) + np.array([x, y])
    return outline


def blades(start: Points, bend: Points, end: Points, width: Points, *, lock: bool = False) -> Points:
    """Curved, tapering leaves along quadratic Bézier curves: stripes, whiskers, grass, fur.

    Args:
        start: Where each curve begins, `(blade, 2)`.
        bend: The control point of each curve, `(blade, 2)`.
        end: Where each curve ends, `(blade, 2)`.
        width: Largest half width of each blade, `(blade,)`.
        lock: Widest at its root, like a lock of hair, instead of in its middle.

    Returns:
        Closed outlines, `(blade, 12, 2)`.
    """
    t = _BLADE_T[None, :, None]
    p0, p1, p2 = start[:, None], bend[:, None], end[:, None]
    line = (1 - t) ** 2 * p0 + 2 * t * (1 - t) * p1 + t**2 * p2
    slope = 2 * (1 - t) * (p1 - p0) + 2 * t * (p2 - p1)
    length = np.sqrt((slope**2).sum(axis=2, keepdims=True)) + 1e-9
    normal = slope[..., ::-1] * np.array([-1.0, 1.0]) / length
    profile = _LOCK_WIDTH if lock else _BLADE_WIDTH
    side = normal * (profile[None, :, None] * width[:, None, None])
    return np.concatenate([line + side, (line - side)[:, ::-1]], axis=1)


@dataclass(frozen=True)
class Pose:
    """Where the head is and how it is turned. Head units: half its width is 1, y points down.

    Attributes:
        x, y: Centre of the head as a fraction of the image's side.
        radius: Half the head's width as a fraction of the image's side.
        roll, yaw, pitch: Radians.
    """

    x: float
    y: float
    radius: float
    roll: float
    yaw: float
    pitch: float

    def project(self, points: Points, depth: Points) -> Points:
        """Turn `(point, 2)` at `(point,)` depths towards the viewer into fractions of the image's side."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        x = points[:, 0] * (0.35 + 0.65 * c) + depth * s
        y = points[:, 1] * (0.5 + 0.5 * np.cos(self.pitch)) + depth * np.sin(self.pitch)
        c, s = np.cos(self.roll), np.sin(self.roll)
        return np.stack([self.x + self.radius * (c * x - s * y), self.y + self.radius * (s * x + c * y)], axis=1)


def face_depth(points: Points) -> Points:
    """Depth of points on a face: a dome with a muzzle that stands out of it."""
    x, y = points[:, 0], points[:, 1]
    dome = 0.72 * (1.0 - 0.75 * (x**2 + y**2))
    return dome + 0.34 * np.exp(-((x / 0.42) ** 2) - ((y - 0.42) / 0.36) ** 2)


@dataclass
class Scene:
    """Shapes in painter's order, in head units."""

    outlines: list[Points] = field(default_factory=list)
    depths: list[float | None] = field(default_factory=list)
    colours: list[Colour] = field(default_factory=list)

    def add(self, outline: Points, colour: Colour, *, depth: float | None = None) -> None:
        """Add one outline, `(point, 2)`; without a depth it lies on the face."""
        self.outlines.append(outline)
        self.depths.append(depth)
        self.colours.append(colour)

    def add_all(self, outlines: Points, colours: list[Colour], *, depth: float | None = None) -> None:
        """Add outlines, `(shape, point, 2)`, one colour each."""
        for outline, colour in zip(outlines, colours, strict=True):
            self.add(outline, colour, depth=depth)

    def polygons(self, pose: Pose, canvas_px: int) -> list[tuple[list[float], Colour]]:
        """Project every shape at once: flat lists x, y, x, y, … in pixels, with their colours."""
        points = np.concatenate(self.outlines)
        sizes = [len(outline) for outline in self.outlines]
        given = np.repeat([np.nan if depth is None else depth for depth in self.depths], sizes)
        depth = np.where(np.isnan(given), face_depth(points), given)
        flat = (pose.project(points, depth) * canvas_px).ravel().tolist()
        ends = (2 * np.cumsum(sizes)).tolist()
        starts = [0, *ends[:-1]]
        return [(flat[a:b], colour) for a, b, colour in zip(starts, ends, self.colours, strict=True)]
