"""Coat colours. Every class draws from wide ranges that overlap, so that colour does not name the animal."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from random import Random

from .shapes import Colour, mix, shade

WHITE: Colour = (244.0, 240.0, 232.0)
BLACK: Colour = (26.0, 22.0, 20.0)
PINK: Colour = (206.0, 132.0, 122.0)

# hue, saturation and value ranges; how often each is drawn, by class
_FURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "orange": ((0.055, 0.095), (0.50, 0.80), (0.62, 0.92)),
    "tawny": ((0.085, 0.120), (0.30, 0.58), (0.58, 0.90)),
    "sand": ((0.085, 0.125), (0.14, 0.32), (0.68, 0.92)),
    "brown": ((0.055, 0.095), (0.28, 0.55), (0.36, 0.60)),
    "grey": ((0.060, 0.120), (0.03, 0.16), (0.42, 0.72)),
    "white": ((0.080, 0.130), (0.02, 0.10), (0.84, 0.96)),
    "black": ((0.050, 0.120), (0.05, 0.25), (0.13, 0.26)),
}
_SHARES: dict[str, dict[str, float]] = {
    "cat": {"orange": 5, "tawny": 4, "sand": 4, "brown": 4, "grey": 4, "white": 3, "black": 2},
    "lion": {"orange": 5, "tawny": 8, "sand": 6, "brown": 2, "grey": 1, "white": 1},
    "lynx": {"orange": 3, "tawny": 5, "sand": 5, "brown": 4, "grey": 5, "white": 2},
    "tiger": {"orange": 7, "tawny": 5, "sand": 4, "brown": 3, "grey": 2, "white": 4},
}
_IRISES: tuple[Colour, ...] = (
    (214, 172, 52),
    (196, 132, 44),
    (150, 168, 62),
    (104, 150, 84),
    (118, 156, 178),
    (232, 196, 92),
)


@dataclass(frozen=True)
class Coat:
    """The colours of one animal.

    Attributes:
        base: Most of the fur.
        light: Muzzle, chin, brows and chest.
        dark: Markings.
        inner: The inside of the ears.
        nose: The nose.
        iris: The eyes.
    """

    base: Colour
    light: Colour
    dark: Colour
    inner: Colour
    nose: Colour
    iris: Colour


def pick_fur(rng: Random, label: str) -> Colour:
    """Draw a fur colour for a class."""
    names = list(_SHARES[label])
    name = rng.choices(names, weights=[_SHARES[label][key] for key in names])[0]
    hue, saturation, value = (rng.uniform(*bounds) for bounds in _FURS[name])
    r, g, b = colorsys.hsv_to_rgb(hue, saturation, value)
    return 255 * r, 255 * g, 255 * b


def build_coat(rng: Random, label: str) -> Coat:
    """Draw the colours of one animal of a class."""
    base = pick_fur(rng, label)
    return Coat(
        base=base,
        light=mix(base, WHITE, rng.uniform(0.45, 0.95)),
        dark=mix(BLACK, shade(base, 0.35), rng.uniform(0.0, 0.5)),
        inner=mix(shade(base, 0.7), PINK, rng.uniform(0.2, 0.7)),
        nose=rng.choice([PINK, mix(PINK, BLACK, 0.45), mix(PINK, BLACK, 0.85)]),
        iris=rng.choice(_IRISES),
    )
