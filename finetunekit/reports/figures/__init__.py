"""Figures: drawn by matplotlib in one style, written as SVG elements of a page, as SVG files and as PNG. For reporters and pages."""

from __future__ import annotations

from finetunekit.reports.figures.curves import CurvePoint, curve_plot
from finetunekit.reports.figures.drawing import (
    BLANK,
    CONTRAST,
    GRID,
    INK,
    MAIN,
    MUTED,
    OTHER,
    Drawing,
    Format,
    axes_at,
    figure_files,
    inline_svg,
    keep_whole,
    one_line,
    png_file,
    shortened,
    svg_file,
)
from finetunekit.reports.figures.intervals import IntervalRow, interval_plot
from finetunekit.reports.figures.rates import rate_plot
from finetunekit.reports.figures.slices import SlicePoint, importance_plot, slice_plot

__all__ = [
    "BLANK",
    "CONTRAST",
    "GRID",
    "INK",
    "MAIN",
    "MUTED",
    "OTHER",
    "CurvePoint",
    "Drawing",
    "Format",
    "IntervalRow",
    "SlicePoint",
    "axes_at",
    "curve_plot",
    "figure_files",
    "importance_plot",
    "inline_svg",
    "interval_plot",
    "keep_whole",
    "one_line",
    "png_file",
    "rate_plot",
    "shortened",
    "slice_plot",
    "svg_file",
]
