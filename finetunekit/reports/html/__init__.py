"""Pages in one file: escaped markup, one style for screen and paper, thumbnails, interval plots. For reporters and comparisons."""

from __future__ import annotations

from finetunekit.reports.figures import CurvePoint, IntervalRow
from finetunekit.reports.html.markup import Attributes, Child, Html, definitions, h, join, minus, scrolling, table
from finetunekit.reports.html.plots import curve_plot, interval_plot
from finetunekit.reports.html.shell import PageSection, document
from finetunekit.reports.html.thumbnails import Thumbnail, data_uri, make_thumbnail, photo_figure

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
    "table",
]
