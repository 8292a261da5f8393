"""Plots as elements of a page."""

from __future__ import annotations

from collections.abc import Sequence

from finetunekit.reports import figures
from finetunekit.reports.figures import CurvePoint, IntervalRow
from finetunekit.reports.html.markup import Html


def curve_plot(points: Sequence[CurvePoint], *, name: str, title: str, x_axis: str, y_axis: str) -> Html:
    """`figures.curve_plot` as inline SVG."""
    return Html(figures.inline_svg(figures.curve_plot(points, name=name, title=title, x_axis=x_axis, y_axis=y_axis)))


def interval_plot(rows: Sequence[IntervalRow], *, name: str, title: str, axis: str) -> Html:
    """`figures.interval_plot` as inline SVG."""
    return Html(figures.inline_svg(figures.interval_plot(rows, name=name, title=title, axis=axis)))
