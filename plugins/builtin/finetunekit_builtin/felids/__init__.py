"""Cats, lions, lynxes and tigers that this project draws itself, as a stand-in for photos."""

from __future__ import annotations

from .folder import DEFAULT_PER_CLASS, write_drawn_photos
from .photo import CLASSES, SPLITS, draw_photo

__all__ = ["CLASSES", "DEFAULT_PER_CLASS", "SPLITS", "draw_photo", "write_drawn_photos"]
