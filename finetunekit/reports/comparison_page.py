"""A comparison of finished runs as one page: verdict, scores, paired tests, configuration diff, photos that changed sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from finetunekit.reports.comparison_text import about, log_loss_words, p_words, verdict_sentences
from finetunekit.reports.fonts import embedded_font_css
from finetunekit.reports.html import (
    Child,
    Html,
    IntervalRow,
    PageSection,
    Thumbnail,
    definitions,
    document,
    h,
    interval_plot,
    join,
    make_thumbnail,
    minus,
    photo_figure,
    table,
)
from finetunekit.runs.comparison import ChangedPhoto, ComparedRun, Comparison, RunPair
from finetunekit.runs.config_diff import Change
from finetunekit.runs.folder import FinishedRun
from finetunekit.system.files import write_whole

THUMBNAIL_PX = 144
ADVICE = "These are trained networks, not recipes: with another seed each of them might answer otherwise (run --seeds)."
#: Kept free for everything that is no photo.
TEXT_BYTES = 600_000
FULL = "left out: the page has reached its size"


def comparison_page(comparison: Comparison, *, most_photos: int = 60, max_bytes: int = 3_000_000) -> bytes:
    """Draw a comparison as a page in one file that fetches nothing and runs no script.

    Args:
        comparison: See `compare_runs`.
        most_photos: Photos shown on either side of each pair.
        max_bytes: Size of the page; photos that would go over it are left out, and it says so.

    Returns:
        UTF-8 HTML.
    """
    photos = _Photos(comparison, max_bytes - TEXT_BYTES)
    sections = [_runs_section(comparison)]
    for pair in comparison.pairs:
        sections.append(_pair_section(comparison, pair))
        sections.append(_photos_section(pair, photos, most_photos))
        sections.append(_changes_section(pair))
    lead = [
        h("p", text, at={"class": "lead"}) for pair in comparison.pairs for text in verdict_sentences(comparison, pair)
    ]
    stand_ins = list(dict.fromkeys(run.stand_in for run in comparison.runs if run.stand_in))
    title = f"{len(comparison.runs)} runs compared on the photos they share"
    fonts = embedded_font_css([photo.true for pair in comparison.pairs for photo in (*pair.gained, *pair.lost)])
    warning = " ".join(stand_ins) or None
    return document(
        title, join([*lead, h("p", ADVICE, at={"class": "muted small"})]), sections, font_css=fonts, stand_in=warning
    )


class _Photos:
    """Thumbnails from the reference's folder, until the page is full."""

    def __init__(self, comparison: Comparison, left_bytes: int) -> None:
        self.runs = [FinishedRun(run.path) for run in comparison.runs]
        self.left_bytes = left_bytes

    def take(self, photo: ChangedPhoto) -> Thumbnail:
        found = make_thumbnail(self.runs[0].photo_path(photo.path), photo.sha256, THUMBNAIL_PX, quality=82)
        if found.content is None:
            return found
        self.left_bytes -= len(found.content) * 4 // 3
        return found if self.left_bytes >= 0 else Thumbnail(None, problem=FULL)


def _runs_section(comparison: Comparison) -> PageSection:
    rows = [
        IntervalRow(
            f"run {run.number}: {run.name}" + ("" if run.seed is None else f", seed {run.seed}"),
            run.correct / run.photos,
            run.interval.low,
            run.interval.high,
            f"{run.correct:,} of {run.photos:,}, {100 * run.correct / run.photos:.1f} %",
            is_main=run.number == 1,
        )
        for run in comparison.runs
    ]
    axis = "test photos right, with 95 % intervals"
    plot = h("figure", interval_plot(rows, name="runs-plot", title="Each run on its own test photos", axis=axis))
    note = (
        "Each interval is about one run alone. Whether two runs differ is told by the photos that changed sides, below: "
        "overlapping intervals are no test."
    )
    listed = definitions((f"run {run.number}", _run_words(run)) for run in comparison.runs)
    return PageSection("runs", "The runs", join([plot, h("p", note, at={"class": "muted small"}), listed]))


def _run_words(run: ComparedRun) -> str:
    copies = f"; {run.copies} copies of test photos left out" if run.copies else ""
    return f"{run.path.name}{copies}"


def _pair_section(comparison: Comparison, pair: RunPair) -> PageSection:
    scores, test = pair.scores, pair.scores.mcnemar
    low, high = 100 * scores.accuracy_interval.low, 100 * scores.accuracy_interval.high
    adjusted = (
        f"; {p_words(pair.p_adjusted)} adjusted for {len(comparison.pairs)} pairs (Holm)"
        if len(comparison.pairs) > 1
        else ""
    )
    needed = scores.photos_needed
    loss = scores.log_loss_interval
    pairs: list[tuple[Child, Child]] = [
        ("photos both were tested on", f"{pair.common:,}{_only(pair)}"),
        (f"only run {pair.second} is right", f"{test.gained:,}"),
        (f"only run {pair.first} is right", f"{test.lost:,}"),
        (
            "accuracy",
            minus(f"{100 * scores.accuracy_difference:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, Tango)"),
        ),
        ("McNemar's exact test", f"{p_words(test.p_exact)}{adjusted}"),
        (
            "log loss",
            minus(
                f"{scores.log_loss_difference:+.4f} nats (95 % interval {loss.low:+.4f} to {loss.high:+.4f}, paired bootstrap): "
                f"{log_loss_words(loss)}"
            ),
        ),
        (
            "photos to tell 1 point apart",
            f"about {about(needed.photos)} ({about(needed.photos_low)} to {about(needed.photos_high)})",
        ),
    ]
    return PageSection(f"pair-{pair.second}", f"Run {pair.second} against run {pair.first}", definitions(pairs))


def _only(pair: RunPair) -> str:
    if not pair.only_first and not pair.only_second:
        return ""
    return f"; {pair.only_first} are in run {pair.first} only, {pair.only_second} in run {pair.second} only"


def _photos_section(pair: RunPair, photos: _Photos, most: int) -> PageSection:
    parts: list[Html] = []
    for number, other, changed in ((pair.second, pair.first, pair.gained), (pair.first, pair.second, pair.lost)):
        parts.append(h("h3", f"Only run {number} is right: {len(changed):,}"))
        if changed:
            shown = [_figure(photo, pair, photos) for photo in changed[:most]]
            parts.append(h("div", shown, at={"class": "photos"}))
        else:
            parts.append(h("p", f"No photo that run {number} has right was wrong in run {other}."))
        if len(changed) > most:
            parts.append(h("p", f"and {len(changed) - most:,} more, in finetunekit compare --all"))
    return PageSection(f"photos-{pair.second}", f"Photos that changed sides, run {pair.second}", join(parts))


def _figure(photo: ChangedPhoto, pair: RunPair, photos: _Photos) -> Html:
    caption: list[Child] = [
        h("strong", f"true: {photo.true}"),
        h("br"),
        f"run {pair.first}: {photo.first} {100 * photo.first_probability:.0f} %",
        h("br"),
        f"run {pair.second}: {photo.second} {100 * photo.second_probability:.0f} %",
        h("br"),
        photo.path,
    ]
    is_gained = photo.second == photo.true
    return photo_figure(photos.take(photo), photo.path, caption, kind="right" if is_gained else "wrong")


def _changes_section(pair: RunPair) -> PageSection:
    parts = list(_changes("Configuration", pair, pair.configuration))
    if pair.machine or pair.is_machine_known:
        parts += _changes("Machine and versions", pair, pair.machine)
    else:
        parts.append(h("p", "Machine and versions were not recorded by both runs."))
    return PageSection(f"changes-{pair.second}", f"What differs in run {pair.second}", join(parts))


def _changes(title: str, pair: RunPair, changes: Sequence[Change]) -> Iterator[Html]:
    if not changes:
        yield h("p", f"{title}: the same.")
        return
    rows = [[h("code", change.key), _value(change.first), _value(change.second)] for change in changes]
    yield table(["", f"run {pair.first}", f"run {pair.second}"], rows, caption=title)


def _value(value: Any) -> str:
    return "–" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page whole.

    Raises:
        RunFolderError: If it cannot be written.
    """
    write_whole(path, comparison_page(comparison))
