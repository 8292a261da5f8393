"""An audit in lines for a terminal, at most 80 columns: findings by severity, with counts and the first photos."""

from __future__ import annotations

from collections.abc import Iterator

from finetunekit.data.audit.findings import SEVERITIES, AuditReport, Finding, Seen, counts_line
from finetunekit.system.formatting import counted
from finetunekit.system.terminal import WIDTH_COLUMNS, shorten, terminal_width, wrap

NAMED = 3


def audit_lines(report: AuditReport, named: int = NAMED) -> Iterator[str]:
    """The report as lines.

    Args:
        report: What was found.
        named: Photos, or clusters of them, that are named of each finding.
    """
    if report.stand_in:
        yield from wrap(report.stand_in)
    splits = ", ".join(f"{count:,} {split}" for split, count in report.photos.items() if count)
    yield from wrap(f"{splits}; {counted(len(report.classes), 'class')}: {', '.join(report.classes)}")
    if report.sizes:
        width, height = report.sizes["width_px"], report.sizes["height_px"]
        yield f"width {width[0]} to {width[2]} px, height {height[0]} to {height[2]} px, most {width[1]} x {height[1]}"
    for severity in SEVERITIES:
        for finding in report.of(severity):
            yield ""
            yield from _finding_lines(finding, named)
    yield ""
    yield f"{counts_line(report)}; {report.seconds:.1f} s"
    for line in report.looked_at:
        yield from wrap(f"looked at: {line}", hanging=2)


def _finding_lines(finding: Finding, named: int) -> Iterator[str]:
    yield from wrap(f"{finding.severity:<8}{finding.kind}: {finding.title}", hanging=8)
    for group in finding.groups[:named]:
        for i, seen in enumerate(group[:4]):
            yield _photo_line(seen, "  = " if i else "")
        if len(group) > 4:
            yield f"{'':12}and {len(group) - 4} more of it"
    if len(finding.groups) > named:
        yield f"{'':8}and {len(finding.groups) - named:,} more (--html shows them, --json lists all)"
    yield from wrap(finding.remedy, indent=8)


def _photo_line(seen: Seen, mark: str) -> str:
    # where classes lie in no split folder, the path does not say which split a photo is in
    words = (
        seen.note if seen.path.startswith(f"{seen.split}/") else f"in {seen.split}{', ' * bool(seen.note)}{seen.note}"
    )
    note = f"  {words}" if words else ""
    room = max(12, WIDTH_COLUMNS - 8 - len(mark) - terminal_width(note))
    return f"{'':8}{mark}{shorten(seen.path, room, keep='end')}{note}"
