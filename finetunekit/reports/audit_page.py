"""An audit as one HTML page with thumbnails: nothing fetched, light and dark, each picture with words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from finetunekit.data.audit.findings import SEVERITIES, AuditReport, Finding, Seen, counts_line
from finetunekit.reports.pages import TEMPLATES, render_page
from finetunekit.reports.thumbnails import make_thumbnail

#: Clusters or photos shown of each finding, and photos of a cluster; the others are counted.
SHOWN, SHOWN_OF_A_CLUSTER = 24, 6
_THUMBNAIL_PX = 160


def audit_page(report: AuditReport, paths: Mapping[str, Path]) -> bytes:
    """The page, UTF-8.

    Args:
        report: What was found.
        paths: What the report calls a photo → the file.
    """
    splits = [split for split, count in report.photos.items() if count and split != "display"]
    return render_page(
        TEMPLATES / "audit.html",
        title="Data audit",
        stand_in=report.stand_in,
        report=report,
        counts=counts_line(report),
        found=[(finding.severity, finding.kind, finding.title) for finding in report.findings],
        balance=[[name, *(counts.get(split, 0) for split in splits)] for name, counts in report.classes.items()],
        splits=splits,
        severities=SEVERITIES,
        most=SHOWN,
        shown=_shown,
        picture=lambda seen: make_thumbnail(paths.get(seen.path, Path(seen.path)), seen.sha256, _THUMBNAIL_PX),
    )


def _shown(finding: Finding) -> list[tuple[Seen, ...]]:
    """Clusters; photos that each stand alone make one."""
    groups = finding.groups[:SHOWN]
    if all(len(group) == 1 for group in groups):
        return [tuple(seen for group in groups for seen in group)]
    return [group[:SHOWN_OF_A_CLUSTER] for group in groups]
