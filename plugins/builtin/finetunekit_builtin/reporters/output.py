"""From a figure to the files of a report, with what every figure must say."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .embed import embedded_font_css
from .raster import to_png
from .scene import Drawing, Text, with_stand_in
from .svg import to_svg

Format: TypeAlias = Literal["svg", "png"]


def figure_files(
    drawing: Drawing, formats: tuple[Format, ...], stand_in: str | None, png_scale: int = 2
) -> dict[str, bytes]:
    """Write a figure in the formats asked for.

    Args:
        drawing: The figure, without the stand-in sentence.
        formats: Which files to make.
        stand_in: The run's stand-in sentence, shown below the figure.
        png_scale: Pixels of the PNG per pixel of the figure.

    Returns:
        `<name>.svg` and `<name>.png`, as asked for; `-` in the figure's name becomes `_`.
    """
    complete = with_stand_in(drawing, stand_in)
    stem = drawing.name.replace("-", "_")
    files: dict[str, bytes] = {}
    if "svg" in formats:
        texts = [item.content for item in complete.items if isinstance(item, Text)]
        files[f"{stem}.svg"] = to_svg(complete, embedded_font_css(texts))
    if "png" in formats:
        files[f"{stem}.png"] = to_png(complete, png_scale)
    return files
