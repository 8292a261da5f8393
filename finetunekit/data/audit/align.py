"""Whether one small grey picture is another one, or a window of it: the window is fitted, then what is left is compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.measure import SIDE_PX

#: Of at most this many steps; most pairs stop moving after three.
_STEPS = 8
_STILL = 1e-3

Grey = NDArray[np.float32]
_POSITIONS = ((np.arange(SIDE_PX) + 0.5) / SIDE_PX).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Match:
    """How well one picture is a window of another.

    Attributes:
        likeness: Correlation of both pictures' gradients, in [-1, 1]; flat areas and slow shades count nothing.
        window: (top, bottom, left, right) in parts of the other picture's sides.
    """

    likeness: float
    window: tuple[float, float, float, float]


def match_window(
    whole: NDArray[np.uint8],
    part: NDArray[np.uint8],
    window: tuple[float, float, float, float],
    *,
    worth_fitting: float = -1.0,
) -> Match:
    """Fit the window of `whole` that is most like `part`, by Gauss-Newton steps on its four edges.

    Brightness and contrast are free. The window may leave the picture by a little, where the edge pixels are repeated.

    Args:
        whole: `(SIDE_PX, SIDE_PX)` uint8.
        part: `(SIDE_PX, SIDE_PX)` uint8.
        window: Where to begin: (top, bottom, left, right), in parts of the sides.
        worth_fitting: Where the likeness is less than this to begin with, nothing is fitted.

    Source: Lucas and Kanade 1981, "An iterative image registration technique", IJCAI; Baker and Matthews 2004, IJCV 56(3).
    """
    source, target = _soft(whole.astype(np.float32)), _soft(part.astype(np.float32))
    edges = np.array(window, np.float64)
    best = Match(-1.0, window)
    for _ in range(_STEPS):
        seen = _sample(source, edges)
        likeness = _likeness(seen, target)
        if likeness > best.likeness:
            best = Match(likeness, (float(edges[0]), float(edges[1]), float(edges[2]), float(edges[3])))
        if best.likeness < worth_fitting:
            break
        step = _step(seen, target, edges)
        edges += np.clip(step, -0.05, 0.05)
        if np.abs(step).max() < _STILL or not _is_sensible(edges):
            break
    return best


def _is_sensible(edges: NDArray[np.float64]) -> bool:
    sizes = edges[1::2] - edges[::2]
    return bool(sizes.min() > 0.75 and sizes.max() < 1.1 and edges.min() > -0.05 and edges.max() < 1.05)


def _soft(grey: Grey) -> Grey:
    """Blurred by (1 2 1)/4 along both axes, so that a shift of half a pixel is a small change."""
    padded = np.pad(grey, 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return np.asarray((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4, np.float32)


def _sample(source: Grey, edges: NDArray[np.float64]) -> Grey:
    """The window stretched to `(SIDE_PX, SIDE_PX)`, bilinear."""
    rows, columns = _interpolation(edges[0], edges[1]), _interpolation(edges[2], edges[3])
    return np.asarray(rows @ source @ columns.T, np.float32)


def _interpolation(start: float, end: float) -> Grey:
    places = np.clip((start + (end - start) * _POSITIONS) * SIDE_PX - 0.5, 0, SIDE_PX - 1)
    left = np.minimum(places.astype(np.int64), SIDE_PX - 2)
    share = (places - left).astype(np.float32)
    matrix = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    lines = np.arange(SIDE_PX)
    matrix[lines, left], matrix[lines, left + 1] = 1 - share, share
    return matrix


def _step(seen: Grey, target: Grey, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """One Gauss-Newton step of (top, bottom, left, right); contrast and brightness are solved for beside it."""
    down, right = _slopes(seen)
    down, right = down * (SIDE_PX / (edges[1] - edges[0])), right * (SIDE_PX / (edges[3] - edges[2]))
    along, across = _POSITIONS[:, np.newaxis], _POSITIONS[np.newaxis]
    moved = (down * (1 - along), down * along, right * (1 - across), right * across, target, np.ones_like(target))
    matrix = np.stack(moved, axis=-1).reshape(-1, len(moved)).astype(np.float64)
    matrix[:, 4:] *= -1
    normal = matrix.T @ matrix
    normal[np.diag_indices(6)] *= 1 + 1e-6
    normal[np.diag_indices(6)] += 1e-6
    solved = np.linalg.solve(normal, -matrix.T @ seen.ravel().astype(np.float64))
    return np.asarray(solved[:4], np.float64)


def _likeness(first: Grey, second: Grey) -> float:
    one, other = np.stack(_slopes(first)), np.stack(_slopes(second))
    norm = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norm if norm > 1e-3 else 0.0


def _slopes(grey: Grey) -> tuple[Grey, Grey]:
    """Differences of neighbours, downwards and to the right."""
    down, right = np.gradient(grey)
    return np.asarray(down, np.float32), np.asarray(right, np.float32)
