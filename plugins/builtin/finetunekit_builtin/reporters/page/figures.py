"""Figures on the page, in a box that scrolls where one is wider than a phone."""

from __future__ import annotations

import re

from finetunekit.reports.figures import Drawing, inline_svg
from finetunekit.reports.html import Html, h, scrolling

PHONE_PX, LEAST_PX = 480, 900


def inline(drawing: Drawing) -> Html:
    """A figure inside the page; one of many cells is not shrunk below what can be read."""
    svg = inline_svg(drawing)
    width = re.search(r'width="([\d.]+)"', svg)
    if width is None or float(width[1]) <= PHONE_PX:
        return h("figure", Html(svg))
    style = f"max-width:none;min-width:{min(float(width[1]), LEAST_PX):.0f}px;"
    return h("figure", scrolling(Html(svg.replace('style="', f'style="{style}', 1)), drawing.title))
