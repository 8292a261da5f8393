"""Pages in one file: escaped markup, one style for screen and paper, thumbnails, interval plots. For reporters and comparisons."""

from __future__ import annotations

from finetunekit.webpage.curves import CurvePoint, curve_plot
from finetunekit.webpage.drawing import svg_file
from finetunekit.webpage.intervals import IntervalRow, interval_plot
from finetunekit.webpage.markup import Attributes, Child, Html, definitions, h, join, minus, scrolling, table
from finetunekit.webpage.shell import PageSection, document
from finetunekit.webpage.thumbnails import Thumbnail, data_uri, make_thumbnail, photo_figure

__all__ = [
    "Attributes",
    "Child",
    "CurvePoint",
    "Html",
    "IntervalRow",
    "PageSection",
    "Thumbnail",
    "curve_plot",
    "data_uri",
    "definitions",
    "document",
    "h",
    "interval_plot",
    "join",
    "make_thumbnail",
    "minus",
    "photo_figure",
    "scrolling",
    "svg_file",
    "table",
]
