"""A contact sheet as one self-contained page, in which a browser finds the letters of any script."""

from __future__ import annotations

import io

from finetunekit.reports.contact_sheet import Sheet, SheetRow, Tile
from finetunekit.reports.fonts import embedded_font_css
from finetunekit.reports.html.markup import Html, h
from finetunekit.reports.html.shell import PageSection, document
from finetunekit.reports.html.thumbnails import Thumbnail, photo_figure

JPEG_QUALITY = 85


def sheet_page(sheet: Sheet) -> bytes:
    """A page with a section a class, the same bytes for the same photos."""
    sections = [_section(row, number) for number, row in enumerate(sheet.rows)]
    fonts = embedded_font_css([sheet.title, *(row.label for row in sheet.rows)])
    lead = h("p", sheet.subtitle)
    return document(f"{sheet.title}: photos", lead, sections, font_css=fonts, stand_in=sheet.stand_in)


def _section(row: SheetRow, number: int) -> PageSection:
    figures = [_figure(tile, row.label) for tile in row.tiles]
    body = h("div", figures, at={"class": "photos"})
    lead = h("p", f"{len(row.tiles)} of {row.photos} photos", at={"class": "muted small"})
    return PageSection(f"class-{number}", row.label or "without a class", Html(lead + body))


def _figure(tile: Tile, label: str) -> Html:
    if tile.picture is None:
        return photo_figure(Thumbnail(None, problem=tile.problem), "", tile.shown)
    stream = io.BytesIO()
    tile.picture.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True)
    caption = [_file_name(tile.shown), h("br"), f"{tile.width_px} × {tile.height_px} px"]
    return photo_figure(Thumbnail(stream.getvalue(), *tile.picture.size), f"{label}: {tile.shown}", caption)


def _file_name(shown: str) -> str:
    return shown.rpartition("/")[2]
