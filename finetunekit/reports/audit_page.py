"""An audit as one HTML page with thumbnails: nothing fetched, light and dark, each picture with words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from finetunekit.data.audit.findings import SEVERITIES, AuditReport, Finding, Seen, counts_line
from finetunekit.reports.html import Child, Html, PageSection, document, h, make_thumbnail, photo_figure, table

#: Clusters or photos shown of each finding; the others are counted.
SHOWN = 24
_THUMBNAIL_PX = 160


def audit_page(report: AuditReport, paths: Mapping[str, Path]) -> bytes:
    """The page, UTF-8.

    Args:
        report: What was found.
        paths: What the report calls a photo → the file.
    """
    sections = [PageSection("summary", "Summary", _summary(report))]
    for severity in SEVERITIES:
        sections += [
            PageSection(
                f"{severity}-{number}-{finding.kind}",
                f"{severity.capitalize()}: {finding.kind}",
                _finding(finding, paths),
            )
            for number, finding in enumerate(report.of(severity), start=1)
        ]
    lead = h("p", f"{counts_line(report)}, in {sum(report.photos.values()):,} photos of {report.root}")
    return document("Data audit", lead, sections, stand_in=report.stand_in)


def _summary(report: AuditReport) -> Html:
    splits = [split for split, count in report.photos.items() if count and split != "display"]
    rows: list[list[Child]] = [
        [name, *[counts.get(split, 0) for split in splits]] for name, counts in report.classes.items()
    ]
    balance = table(
        ["class", *splits], rows, caption="Readable photos of each class and split", numbers=range(1, len(splits) + 1)
    )
    found: list[list[Child]] = [[f.severity, f.kind, f.title] for severity in SEVERITIES for f in report.of(severity)]
    findings = (
        table(["severity", "kind", "what was found"], found, caption="Findings")
        if found
        else h("p", "Nothing was found.")
    )
    return h("div", findings, balance, [h("p", f"Looked at: {line}.") for line in report.looked_at])


def _finding(finding: Finding, paths: Mapping[str, Path]) -> Html:
    groups = finding.groups[:SHOWN]
    if all(len(group) == 1 for group in groups):
        pictures = _photos([_photo(seen, paths) for group in groups for seen in group])
    else:
        clusters = [_photos([_photo(seen, paths) for seen in group[:6]]) for group in groups]
        pictures = h("div", clusters, at={"class": "figures"})
    more = len(finding.groups) - len(groups)
    return h(
        "div",
        h("p", h("strong", f"{finding.title}. "), finding.remedy),
        pictures,
        h("p", f"and {more:,} more, listed by --json") if more > 0 else None,
    )


def _photos(figures: list[Html]) -> Html:
    return h("div", figures, at={"class": "photos"})


def _photo(seen: Seen, paths: Mapping[str, Path]) -> Html:
    caption = h("span", seen.path, h("br"), f"{seen.split}, {seen.label}", [h("br"), seen.note] if seen.note else None)
    thumbnail = make_thumbnail(paths.get(seen.path, Path(seen.path)), seen.sha256, _THUMBNAIL_PX)
    return photo_figure(thumbnail, f"Photo {seen.path}, labelled {seen.label}. {seen.note}".strip(), caption)
