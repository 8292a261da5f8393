"""What an audit found, as values that can be written as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from finetunekit.data.index import IndexedPhoto
from finetunekit.system.formatting import counted

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One photo that could be left out, and why.

    Attributes:
        path: As the listing shows it.
        sha256: Of the file; empty where it cannot be read.
        split: It is in.
        label: It has.
        reason: One line, with the photo that stays where it is one of several.
    """

    path: str
    sha256: str
    split: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A photo of a finding.

    Attributes:
        path: As the listing shows it.
        split: It is in.
        label: It has.
        sha256: Of the file; empty where it cannot be read.
        note: What of it was found.
        suggests: Another class that it may be of; empty for none.
    """

    path: str
    split: str
    label: str
    sha256: str
    note: str = ""
    suggests: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that is wrong, with every photo it is wrong with.

    Attributes:
        kind: Short name, such as `leak`; what `data.audit.allow` names.
        severity: `error`: a score could not be trusted. `warning`: look at it. `note`: good to know.
        title: One line with counts.
        remedy: What to do, one line.
        groups: Photos, those that belong together in one group.
        exclusions: What leaving out would settle it.
        facts: Numbers behind the title.
    """

    kind: str
    severity: Severity
    title: str
    remedy: str
    groups: tuple[tuple[Seen, ...], ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The findings on one set of photos.

    Attributes:
        root: Folder that paths are relative to.
        photos: Split → number of photos listed.
        classes: Class → split → number of photos.
        sizes: Smallest, middle and largest width and height in pixels.
        stand_in: The sentence that says so if these are not the user's photos.
        findings: Errors first, in a fixed order.
        looked_at: What was looked at, in words; what was not, and why.
        seconds: Time taken.
        decoded: Files decoded; the others were known by their content.
    """

    root: str
    photos: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, Sequence[int]]
    stand_in: str | None
    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]
    seconds: float
    decoded: int

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_dict(self, most: int | None = None) -> dict[str, Any]:
        """Plain values for `audit.json` and `--json`; of each finding at most so many groups and exclusions, if a number is given."""
        counts = {severity: len(self.of(severity)) for severity in SEVERITIES}
        findings = [dataclasses.asdict(finding) for finding in self.findings]
        for finding in findings:
            finding |= {name: finding[name][:most] for name in ("groups", "exclusions")}
        return {"counts": counts, **dataclasses.asdict(dataclasses.replace(self, findings=())), "findings": findings}


def counts_line(report: AuditReport) -> str:
    """`1 error, 2 warnings, 0 notes`."""
    counts = {severity: len(report.of(severity)) for severity in SEVERITIES}
    return ", ".join(counted(count, severity) for severity, count in counts.items())


def see(photo: IndexedPhoto, note: str = "", suggests: str = "") -> Seen:
    """A photo as findings name it."""
    return Seen(photo.shown, photo.split, photo.label, photo.sha256, note, suggests)


def exclude(photo: IndexedPhoto, reason: str) -> Exclusion:
    """A photo as exclusion lists name it."""
    return Exclusion(photo.name, photo.sha256, photo.split, photo.label, reason)


def photos_of(count: int) -> str:
    """`1 photo`, `3 photos`."""
    return counted(count, "photo")


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
