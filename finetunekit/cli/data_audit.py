"""`finetunekit data audit` and `finetunekit data changes`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetunekit.cli.common import (
    json_option,
    make_progress,
    out_option,
    print_json,
    print_lines,
    print_table,
    setting_options,
    trust_option,
)
from finetunekit.system.formatting import counted

if TYPE_CHECKING:
    from finetunekit.data.audit.changes import PhotoChange
    from finetunekit.data.audit.findings import AuditReport
    from finetunekit.system.progress import Progress
    from finetunekit.types import PhotoListing

EXIT_ERRORS, EXIT_WARNINGS = 10, 11


@click.command("audit")
@click.argument("photos", metavar="PRESET|DIR|TABLE|ARCHIVE")
@setting_options
@click.option("--source", metavar="NAME", help="Data source that reads the path; the default depends on the path.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE",
              help="Option of the data source, such as photos=DIR for a table. Repeatable.")  # fmt: skip
@click.option(
    "--size", "fed_px", type=click.IntRange(8, 2048), metavar="PX", help="Side of the network's input, in pixels."
)
@click.option(
    "--network/--no-network",
    "has_network",
    default=None,
    help="Look for wrong labels and outliers with a pretrained network; default: if its weights are on this machine.",
)
@click.option(
    "--fix",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a list of photos to leave out.",
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page with thumbnails."
)
@click.option("--strict", is_flag=True, help=f"Exit with {EXIT_WARNINGS} if there are only warnings.")
@json_option
@click.pass_context
def audit(
    ctx: click.Context,
    *,
    photos: str,
    settings: tuple[str, ...],
    seed: int | None,
    source: str | None,
    options: tuple[str, ...],
    fed_px: int | None,
    has_network: bool | None,
    fix: Path | None,
    html: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Check the photos of a preset, folder, table or archive before anything is trained on them.

    Finds files that cannot be read, copies within and across splits, contradictory and likely wrong labels, and odd
    photos and sizes. Nothing is moved: --fix writes a list for `data.exclude`. Exits with 10 if there are errors.
    """
    from finetunekit.evaluation.photo_audit import audit_photos, open_audited
    from finetunekit.reports.audit_text import audit_lines

    progress = make_progress()
    plan, host, is_preset = open_audited(
        photos, settings=settings, seed=seed, source=source, options=options, progress=progress
    )
    fed_px = fed_px or (plan.config.pixels.size_px if is_preset else None)
    report, listing = audit_photos(plan, host, fed_px=fed_px, has_network=has_network, progress=progress)
    if as_json:
        print_json(report.to_dict())
    else:
        print_lines(audit_lines(report))
    if fix is not None:
        _write_fix(fix, report, progress)
    if html is not None:
        _write_page(html, report, listing, progress)
    if report.of("error"):
        ctx.exit(EXIT_ERRORS)
    if strict and report.of("warning"):
        ctx.exit(EXIT_WARNINGS)


def _write_fix(path: Path, report: AuditReport, progress: Progress) -> None:
    from finetunekit.data.audit.findings import exclusion_rows
    from finetunekit.data.exclusions import exclusions_csv
    from finetunekit.system.files import write_whole

    rows = exclusion_rows(report)
    write_whole(path, exclusions_csv(rows))
    progress.say(
        f"{path}: {counted(len(rows), 'photo')} to leave out. Read it, take out what should stay, then set data.exclude: [{path}]"
    )


def _write_page(path: Path, report: AuditReport, listing: PhotoListing, progress: Progress) -> None:
    from finetunekit.data.index import shown_path
    from finetunekit.reports.audit_page import audit_page
    from finetunekit.system.files import write_whole

    paths = {shown_path(record.path, listing.root): record.path for record in listing.photos}
    write_whole(path, audit_page(report, paths))
    progress.say(f"{path}: page written")


@click.command("changes")
@click.argument("run")
@out_option
@trust_option
@json_option
def changes(run: str, out: str, as_json: bool, trust: bool) -> None:
    """Show what has become of the photos of RUN: added, removed, changed, renamed, relabelled, moved between splits.

    Shows first what people's decisions (data.decisions) changed for the run itself.
    """
    import dataclasses

    from finetunekit.data.audit.changes import decided_changes, photo_changes
    from finetunekit.data.known_photos import open_known_photos
    from finetunekit.data.listing import list_photos
    from finetunekit.runs.folder import CONFIG, FinishedRun, find_run, run_from
    from finetunekit.runs.reopening import reopen_plan

    progress = make_progress()
    path = find_run(run, Path(out)).resolve()
    with run_from(path):
        plan, _ = reopen_plan(path / CONFIG, progress=progress, trust=trust)
        listing = list_photos(plan, progress)
        with open_known_photos(progress.say) as known:
            before = decided_changes(FinishedRun(path).decided)
            found = photo_changes(
                FinishedRun(path).photos,
                listing,
                known=known,
                max_pixels=plan.config.data.max_photo_pixels,
                progress=progress.counter("reading photos"),
            )
    if as_json:
        print_json([dataclasses.asdict(change) for change in (*before, *found)])
        return
    if before or found:
        rows = [(change.kind, change.path, _what(change)) for change in (*before, *found)]
        print_table(rows, ("change", "photo", "what"))
    decided = [f"{counted(len(before), 'change')} by decisions, which the run applied"] if before else []
    print_lines([*decided, f"{counted(len(found), 'change')} since the run"])


def _what(change: PhotoChange) -> str:
    if change.kind in ("added", "removed", "unreadable"):
        return ""
    if change.kind == "renamed":
        return f"now {change.now}"
    was, now = (change.was[:8], change.now[:8]) if change.kind == "content" else (change.was, change.now)
    return f"{was or '(none)'} -> {now or '(none)'}{f' ({change.by})' if change.by else ''}"
