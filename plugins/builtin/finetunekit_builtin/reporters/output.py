"""From a figure to the files of a report, with what every figure must say."""

from __future__ import annotations

from typing import Literal, TypeAlias

from finetunekit.reports.fonts import embedded_font_css, missing_letters, pick_fonts

from .raster import to_png
from .scene import Drawing, Text, with_caption
from .svg import to_svg

Format: TypeAlias = Literal["svg", "png"]
NO_FONT = "Letters that no font on this machine has are spelled out, or shown as U+…; `finetunekit doctor` lists the scripts it can draw."


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
    complete = with_caption(drawing, stand_in, is_warning=True) if stand_in else drawing
    texts = [item.content for item in complete.items if isinstance(item, Text)]
    stem = drawing.name.replace("-", "_")
    files: dict[str, bytes] = {}
    if "svg" in formats:
        files[f"{stem}.svg"] = to_svg(complete, embedded_font_css(texts))
    if "png" in formats:
        whole = "".join(texts)
        has_gap = bool(missing_letters(whole, pick_fonts([whole])))
        files[f"{stem}.png"] = to_png(with_caption(complete, NO_FONT, False) if has_gap else complete, png_scale)
    return files
