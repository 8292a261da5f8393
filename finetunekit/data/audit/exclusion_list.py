"""The exclusions that an audit proposes, each photo once."""

from __future__ import annotations

from finetunekit.data.audit.findings import AuditReport


def exclusion_rows(report: AuditReport) -> list[dict[str, str]]:
    """Rows of `EXCLUSION_COLUMNS`, by path; a photo that several findings would leave out has every reason."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for finding in report.findings:
        if finding.severity == "note":
            continue
        for one in finding.exclusions:
            row = rows.setdefault(
                (one.path, one.split),
                {"path": one.path, "sha256": one.sha256, "split": one.split, "label": one.label, "reason": ""},
            )
            row["reason"] = f"{row['reason']}; {one.reason}" if row["reason"] else one.reason
    return [rows[key] for key in sorted(rows)]
