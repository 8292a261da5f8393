"""The audit before the first epoch: errors stop the run, warnings are lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

from finetunekit.config.sections import AuditKind, AuditSection, RunConfig
from finetunekit.data.audit.audit import audit_measured
from finetunekit.data.audit.findings import SEVERITIES, AuditReport, Finding, Seen
from finetunekit.data.audit.kept import without_kept
from finetunekit.data.index import PhotoIndex
from finetunekit.data.known_photos import KnownPhotos, Measurements
from finetunekit.errors import DataError
from finetunekit.system.progress import Progress
from finetunekit.types import DISPLAY, PhotoListing, PhotoRecord

_NAMED = 3


def audit_index(
    index: PhotoIndex, measured: Measurements, known: KnownPhotos, config: RunConfig, progress: Progress
) -> AuditReport:
    """Audit the photos of a run by what their files tell; nothing is read again.

    Findings that `data.audit.allow` names, and what people decided to keep (`data.decisions`), become notes; errors become warnings where
    `data.audit.gate` is `warn`.

    Args:
        index: The photos.
        measured: What was measured of them.
        known: Holds their small pictures.
        config: Of the run.
        progress: Says what is under way.
    """
    records = tuple(PhotoRecord(p.path, p.label or None, p.split, p.group) for p in index.photos if p.split != DISPLAY)
    listing = PhotoListing(records, index.root, index.stand_in)
    report = audit_measured(listing, measured, known, fed_px=config.pixels.size_px, progress=progress)
    if (
        config.train.leave_out is not None
    ):  # `leave_out` has looked at what trains; a source need not have photos of every class
        report = replace(report, findings=tuple(found for found in report.findings if found.kind != "layout"))
    return apply_severities(without_kept(report, config.data.decisions), config.data.audit)


def apply_severities(report: AuditReport, audit: AuditSection) -> AuditReport:
    """A report whose findings are as severe as the configuration takes them, errors first."""
    findings = [apply_severity(finding, audit) for finding in report.findings]
    return replace(report, findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))))


def apply_severity(finding: Finding, audit: AuditSection) -> Finding:
    """A finding as severe as the configuration takes it."""
    if finding.kind in audit.allow:
        return replace(finding, severity="note", title=f"{finding.title} (allowed)")
    if finding.severity == "error" and audit.gate == "warn":
        return replace(finding, severity="warning")
    return finding


def check_gate(report: AuditReport, preset: str, progress: Progress) -> None:
    """Say every warning in a line, unless the photos are a stand-in, and stop at errors.

    Args:
        report: From `audit_index`.
        preset: What the user called the preset, for the command that shows more.
        progress: Receives the lines.

    Raises:
        DataError: With a line for each error, the photos named and what to do.
    """
    for finding in report.of("warning") if report.stand_in is None else ():
        progress.say(f"warning: audit: {_line(finding)}")
    errors = [f"audit: {_line(finding)}" for finding in report.of("error")]
    if errors:
        kinds = dict.fromkeys(finding.kind for finding in report.of("error"))
        can_be_meant = all(kind in get_args(AuditKind) for kind in kinds)  # no photo that cannot be read is
        allow = f"; or continue anyway with data.audit.allow: [{', '.join(kinds)}]" if can_be_meant else ""
        raise DataError(
            [
                *errors,
                f"audit: see all of it with 'finetunekit data audit {preset} --html audit.html'; leave photos out with --fix FILE and "
                f"data.exclude: [FILE]{allow}",
            ]
        )


def _line(finding: Finding) -> str:
    named = "; ".join(_named(finding.groups))
    return f"{finding.kind}: {finding.title}{f' ({named})' if named else ''}. {finding.remedy}"


def _named(groups: Sequence[tuple[Seen, ...]]) -> Iterator[str]:
    for group in groups[:_NAMED]:
        yield " = ".join(seen.path for seen in group[:4]) + (" = …" if len(group) > 4 else "")
    if len(groups) > _NAMED:
        yield f"and {len(groups) - _NAMED} more"
