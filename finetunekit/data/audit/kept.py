"""Findings that people looked at and want kept: they stop no run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from finetunekit.data.audit.findings import AuditReport, Finding, Seen
from finetunekit.data.decisions import Decision, in_force, read_decisions
from finetunekit.data.index import shown_name
from finetunekit.system.formatting import counted
from finetunekit.system.user_dirs import expand_home


def without_kept(report: AuditReport, file: str | None) -> AuditReport:
    """A report without what people decided to keep: groups of photos, each of which was kept for that kind of finding.

    Args:
        report: Of an audit.
        file: `data.decisions`; None: nothing was decided.

    Raises:
        DataError: If the file cannot be read.
    """
    if file is None:
        return report
    kept = _kept(in_force(read_decisions(expand_home(Path(file)))))
    return replace(report, findings=tuple(_left(finding, kept) for finding in report.findings))


def _kept(decisions: Sequence[Decision]) -> dict[tuple[str, str], set[str]]:
    """Shown name and kind of finding → checksums that the photo had when it was kept for that kind, and nothing else was decided since."""
    found: dict[str, dict[str, str]] = {}
    for one in decisions:
        if one.kind == "keep":
            found.setdefault(one.path, {})[one.why.partition(":")[0]] = one.sha256
        elif one.kind != "group":
            found.pop(one.path, None)
    kinds: dict[tuple[str, str], set[str]] = {}
    for path, of in found.items():
        for kind, sha256 in of.items():
            kinds.setdefault((shown_name(path), kind), set()).add(sha256)
    return kinds


def _left(finding: Finding, kept: dict[tuple[str, str], set[str]]) -> Finding:
    def is_kept(seen: Seen) -> bool:
        checksums = kept.get((seen.path, finding.kind), set())
        return "" in checksums or seen.sha256 in checksums

    groups = tuple(group for group in finding.groups if not all(map(is_kept, group)))
    count = len(finding.groups) - len(groups)
    if not count:
        return finding
    named = {(seen.path, seen.split) for group in groups for seen in group}
    exclusions = tuple(one for one in finding.exclusions if (shown_name(one.path), one.split) in named)
    title = f"{finding.title} ({counted(count, 'of them is', 'of them are')} kept by decision)"
    if groups:
        return replace(finding, groups=groups, exclusions=exclusions, title=title)
    return replace(finding, severity="note", exclusions=(), title=f"{finding.title} (kept by decision)")
