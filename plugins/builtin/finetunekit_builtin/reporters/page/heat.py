"""A Grad-CAM map laid over a photo: grey where nothing counted, coloured where it did."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetunekit.reports.thumbnails import Thumbnail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: From nothing to most, dark to light, so that it reads in grey too. Source: five colours of matplotlib's "inferno".
STOPS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))


def heat_picture(
    photo: Thumbnail, heat: Sequence[Sequence[float]], *, fit: str, crop_pct: float | None = None
) -> Thumbnail:
    """Lay a map over a thumbnail.

    Args:
        photo: The thumbnail.
        heat: `(rows, columns)` in [0, 1], covering what the network saw.
        fit: How the photo became the network's square: `stretch`, `crop` or `pad`.
        crop_pct: Side of the square that `crop` cut out, as a share of the short side; None: 1.

    Returns:
        The picture, of the thumbnail's size, or the thumbnail itself where it has none.
    """
    if photo.content is None:
        return photo
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(photo.content)) as image:
        grey = np.asarray(image.convert("L"), np.float64)
    share = _spread(np.asarray(heat, np.float32), grey.shape, _seen(grey.shape, fit, crop_pct))[..., None]
    colours = np.stack(
        [np.interp(share[..., 0], np.linspace(0, 1, len(STOPS)), stop) for stop in zip(*STOPS, strict=True)], -1
    )
    alpha = 0.15 + 0.6 * share
    mixed = (1 - alpha) * grey[..., None] + alpha * colours
    stream = io.BytesIO()
    Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=80, optimize=True)
    return Thumbnail(stream.getvalue(), photo.width_px, photo.height_px)


def _seen(shape: tuple[int, ...], fit: str, crop_pct: float | None) -> tuple[int, int]:
    """Height and width of what became the square, in the photo's pixels; with `pad`, more than the photo has."""
    height, width = shape
    if fit == "pad":
        return max(shape), max(shape)
    if fit == "crop":
        side = max(1, round(min(shape) * (1.0 if crop_pct is None else crop_pct)))
        return side, side
    return height, width


def _spread(heat: NDArray[np.float32], shape: tuple[int, ...], seen: tuple[int, int]) -> NDArray[np.float64]:
    """The map in the photo's pixels, `(height, width)`; nothing outside what was seen."""
    import numpy as np
    from PIL import Image

    height, width = shape
    fitted = Image.fromarray(heat).resize((seen[1], seen[0]), Image.Resampling.BICUBIC)
    canvas = np.zeros((max(height, seen[0]), max(width, seen[1])))
    top, left = (canvas.shape[0] - seen[0]) // 2, (canvas.shape[1] - seen[1]) // 2
    canvas[top : top + seen[0], left : left + seen[1]] = np.asarray(fitted).clip(0.0, 1.0)
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    return canvas[top : top + height, left : left + width]
