"""Reporter `html`: everything a run found, on one page in one file; and `model_card`, the same in short for a model hub."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.reports.pages import render_page
from finetunekit.reports.thumbnails import Album

from ..confusion_matrix import draw_confusion_matrix
from ..learning_curves import UNITS, draw_curve
from ..options import HtmlOptions
from ..reliability import draw_reliability
from ..solved import is_solved
from .data import count_photos, decided_rows, decided_words, overlap_rows, samples
from .exports import exports
from .mistakes import display, mistakes
from .plan import plan
from .scores import classes, compare_baselines, scores, sets
from .verdict import glance, sentences

if TYPE_CHECKING:
    from finetunekit import FinishedRun

PAGE = "report.html"


def build_html(options: HtmlOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Write the page of a run: verdict, data, plan, curves, scores, baselines, mistakes, and how to repeat it.

    Args:
        options: How many photos are shown and how large.
        run: A finished run; all of its files are read, and its photos where they still are.

    Returns:
        `report.html`: one file that fetches nothing and runs no script.
    """
    name = str(run.config.get("name", run.path.name))
    title = f"{name}: {', '.join(run.classes) if len(run.classes) <= 6 else f'{len(run.classes)} classes'}"
    album = Album(run, options.thumbnail_px, round(options.max_mb * 1e6))
    page = render_page(
        Path(__file__).with_name(PAGE),
        title=title,
        stand_in=run.stand_in,
        names=[title, *run.classes],
        run=run,
        name=name,
        album=album,
        mistakes=mistakes(run, album, options.mistakes),  # they take their photos first, should the page get full
        sentences=sentences(run),
        glance=glance(run),
        photos=count_photos(run),
        samples=samples(run, options.samples_per_class),
        overlap_rows=overlap_rows(run),
        decided_rows=decided_rows(run),
        decided_words=decided_words(run),
        plan=plan(run),
        is_solved=is_solved(run),
        scores=scores(run),
        sets=sets(run),
        compared=compare_baselines(run),
        classes=classes(run),
        display=display(run, options.display),
        exports=exports(run),
        folder=shlex.quote(run.path.name),
        run_command=_run_command(run),
        is_ensemble="ensemble" in run.state,
        **_figures(run),
    )
    return {PAGE: page}


def _run_command(run: FinishedRun) -> str:
    """What makes the run again."""
    if together := run.state.get("ensemble"):
        return shlex.join(["finetunekit", "ensemble", *(member["run"] for member in together["members"])])
    settings = (part for one in run.state.get("settings") or () for part in ("--set", one))
    return shlex.join(["finetunekit", "run", str(run.plan["source"]), *settings])


def _figures(run: FinishedRun) -> dict[str, Any]:
    """What the run's scores can be drawn as; nothing where it has none."""
    import numpy as np

    test = run.metrics.get("test") or {}
    counts = np.array(test.get("confusion") or (), np.int64)
    return {
        "curves": [] if is_solved(run) or not run.epochs else [draw_curve(run.epochs, column) for column in UNITS],
        "confusion": draw_confusion_matrix(counts, run.classes, "test", is_titled=False) if len(counts) else None,
        "reliability": draw_reliability(test["calibration"], "test") if test.get("calibration") else None,
    }
