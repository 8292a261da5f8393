"""A comparison of finished runs as one page: verdict, scores, paired tests, configuration diff, photos that changed sides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from finetunekit.reports.comparison_text import about, log_loss_words, p_words, together, verdict_sentences
from finetunekit.reports.figures import IntervalRow, interval_plot
from finetunekit.reports.pages import TEMPLATES, render_page
from finetunekit.reports.thumbnails import Album
from finetunekit.reports.words import percent
from finetunekit.runs.comparison import ComparedRun, Comparison
from finetunekit.runs.config_diff import Change
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.files import write_whole

THUMBNAIL_PX = 144


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page whole.

    Raises:
        RunFolderError: If it cannot be written.
    """
    write_whole(path, comparison_page(comparison))


def comparison_page(comparison: Comparison, *, most_photos: int = 60, max_bytes: int = 3_000_000) -> bytes:
    """Draw a comparison as a page in one file that fetches nothing and runs no script.

    Args:
        comparison: See `compare_runs`.
        most_photos: Photos shown on either side of each pair.
        max_bytes: Size of the page; photos that would go over it are left out, and it says so.

    Returns:
        UTF-8 HTML.
    """
    title, axis = "Each run on its own test photos", "test photos right, with 95 % intervals"
    return render_page(
        TEMPLATES / "comparison.html",
        title=f"{len(comparison.runs)} runs compared on the photos they share",
        stand_in=" ".join(dict.fromkeys(run.stand_in for run in comparison.runs if run.stand_in)) or None,
        names=[photo.true for pair in comparison.pairs for photo in (*pair.gained, *pair.lost)],
        runs=comparison.runs,
        pairs=comparison.pairs,
        plot=interval_plot([_row(run) for run in comparison.runs], name="runs-plot", title=title, axis=axis),
        most_photos=most_photos,
        verdict=partial(verdict_sentences, comparison),
        about=about,
        log_loss_words=log_loss_words,
        p_words=p_words,
        together=together(comparison),
        rows=_rows,
        album=Album(FinishedRun(comparison.runs[0].path), THUMBNAIL_PX, max_bytes),
    )


def _row(run: ComparedRun) -> IntervalRow:
    label = f"run {run.number}: {run.name}" + ("" if run.seed is None else f", seed {run.seed}")
    share = run.correct / run.photos
    says = f"{run.correct:,} of {run.photos:,}, {percent(share)}"
    return IntervalRow(label, share, run.interval.low, run.interval.high, says, is_main=run.number == 1)


def _rows(changes: Sequence[Change]) -> list[tuple[str, str, str]]:
    return [(change.key, _value(change.first), _value(change.second)) for change in changes]


def _value(value: Any) -> str:
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
