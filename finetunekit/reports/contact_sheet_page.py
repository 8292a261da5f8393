"""A contact sheet as one self-contained page, in which a browser finds the letters of any script."""

from __future__ import annotations

import io

from finetunekit.reports.contact_sheet import Sheet, Tile
from finetunekit.reports.pages import TEMPLATES, render_page
from finetunekit.reports.thumbnails import Thumbnail

JPEG_QUALITY = 85


def sheet_page(sheet: Sheet) -> bytes:
    """A page with a section a class, the same bytes for the same photos."""
    return render_page(
        TEMPLATES / "contact_sheet.html",
        title=f"{sheet.title}: photos",
        stand_in=sheet.stand_in,
        names=[sheet.title, *(row.label for row in sheet.rows)],
        subtitle=sheet.subtitle,
        rows=[(row, [(tile, _picture(tile)) for tile in row.tiles]) for row in sheet.rows],
    )


def _picture(tile: Tile) -> Thumbnail:
    if tile.picture is None:
        return Thumbnail(None, problem=tile.problem)
    stream = io.BytesIO()
    tile.picture.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return Thumbnail(stream.getvalue(), *tile.picture.size)
