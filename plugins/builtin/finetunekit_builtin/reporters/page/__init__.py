"""Reporter `html`: everything a run found, on one page in one file; and `model_card`, the same in short for a model hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from finetunekit.reports.fonts import embedded_font_css
from finetunekit.reports.html import PageSection, document

from .album import Album
from .card import ModelCardOptions, build_model_card
from .closing import (
    commands_section,
    display_section,
    environment_section,
    licences_section,
    openings_section,
)
from .data import data_section
from .mistakes import classes_section, confusion_section, mistakes_section, reliability_section
from .options import HtmlOptions
from .plan import plan_section
from .scores import baselines_section, curves_section, scores_section
from .verdict import lead

if TYPE_CHECKING:
    from finetunekit import FinishedRun

__all__ = ["HtmlOptions", "ModelCardOptions", "build_html", "build_model_card"]

PAGE = "report.html"
TEXT_BYTES = 600_000
"""Kept free for everything that is no photo; a page of 100 classes needs about half of it."""


def build_html(options: HtmlOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Write the page of a run: verdict, data, plan, curves, scores, baselines, mistakes, and how to repeat it.

    Args:
        options: How many photos are shown and how large.
        run: A finished run; all of its files are read, and its photos where they still are.

    Returns:
        `report.html`: one file that fetches nothing and runs no script.
    """
    album = Album(run, options.thumbnail_px, round(options.max_mb * 1e6) - TEXT_BYTES)
    sections = [section for section in _sections(options, run, album) if section is not None]
    title = (
        f"{run.config.get('name', run.path.name)}: {', '.join(run.classes)}" if len(run.classes) <= 6 else _many(run)
    )
    fonts = embedded_font_css([title, *run.classes])
    return {PAGE: document(title, lead(run), sections, font_css=fonts, stand_in=run.stand_in)}


def _many(run: FinishedRun) -> str:
    return f"{run.config.get('name', run.path.name)}: {len(run.classes)} classes"


def _sections(options: HtmlOptions, run: FinishedRun, album: Album) -> tuple[PageSection | None, ...]:
    """In the order of the page; mistakes take their photos first, should the page get full."""
    mistakes = mistakes_section(run, album, options.mistakes)
    return (
        data_section(run, album, options.samples_per_class),
        plan_section(run),
        curves_section(run),
        scores_section(run),
        baselines_section(run),
        confusion_section(run),
        classes_section(run),
        reliability_section(run),
        mistakes,
        display_section(run, album, options.display),
        openings_section(run),
        environment_section(run),
        licences_section(run),
        commands_section(run),
    )
