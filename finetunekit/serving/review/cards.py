"""What a reviewer is shown one after the other: a finding of the audit, a mistake of a run, a photo that a label would teach most from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetunekit.data.audit.findings import AuditReport
from finetunekit.data.index import photo_name, shown_name
from finetunekit.evaluation.suggestions import Suggestions
from finetunekit.types import DISPLAY, PhotoListing

Queue = Literal["audit", "mistakes", "suggestions"]
QUEUES: Mapping[Queue, str] = {
    "audit": "Findings",
    "mistakes": "Mistakes of the run",
    "suggestions": "What to label next",
}
MOST_PHOTOS = 24
"""Of one card; a cluster of copies may have hundreds."""


@dataclass(frozen=True, slots=True)
class ReviewedPhoto:
    """A photo that can be decided about.

    Attributes:
        path: File.
        name: As tables hold it, and decisions.
        label: Its class as listed; empty for none.
        split: It is in.
    """

    path: Path
    name: str
    label: str
    split: str

    @property
    def shown(self) -> str:
        """The name as people see it."""
        return shown_name(self.name)


@dataclass(frozen=True, slots=True)
class Card:
    """What is looked at together.

    Attributes:
        queue: It stands in.
        kind: `leak`, `label`, …; `mistake`; `suggestion`. A decision's `why` begins with it.
        severity: Of the finding; empty for others.
        title: One line.
        advice: What could be done.
        photos: Their numbers.
        notes: What is to be said of each.
        label: A class that the photo may be of; empty for none.
        meant: Position among `photos` of the one that would be left out or labelled.
    """

    queue: Queue
    kind: str
    severity: str
    title: str
    advice: str
    photos: tuple[int, ...]
    notes: tuple[str, ...]
    label: str = ""
    meant: int = 0


def reviewed_photos(listing: PhotoListing) -> tuple[ReviewedPhoto, ...]:
    """Every photo of a listing once, by its own split and class; display photos are no one's to decide about."""
    found = {record.path: record for record in listing.photos if record.split != DISPLAY}
    return tuple(
        ReviewedPhoto(record.path, photo_name(record.path, listing.root), record.label or "", record.split)
        for record in found.values()
    )


def audit_cards(report: AuditReport, photos: Sequence[ReviewedPhoto]) -> Iterator[Card]:
    """A card for each group of photos of each finding, errors first."""
    numbers = {(photo.shown, photo.split): number for number, photo in enumerate(photos)}
    for finding in report.findings:
        leaving = {(shown_name(one.path), one.split) for one in finding.exclusions}
        for group in finding.groups:
            known = [seen for seen in group if (seen.path, seen.split) in numbers][:MOST_PHOTOS]
            if not known:
                continue
            meant = [place for place, seen in enumerate(known) if (seen.path, seen.split) in leaving]
            yield Card(
                "audit",
                finding.kind,
                finding.severity,
                finding.title,
                finding.remedy.replace(" (--fix)", ""),  # here it is a key
                tuple(numbers[seen.path, seen.split] for seen in known),
                tuple(seen.note for seen in known),
                known[0].suggests,
                meant[0] if meant else 0,
            )


def mistake_cards(
    rows: Sequence[Mapping[str, str]], photos: Sequence[ReviewedPhoto], stays: Mapping[str, str]
) -> Iterator[Card]:
    """A card for each photo that a run took for another class, the most confident first.

    Args:
        rows: Of `predictions.csv`.
        photos: Every photo.
        stays: Split → what is to be said of an answer there.
    """
    numbers = {(photo.name, photo.split): number for number, photo in enumerate(photos)}
    wrong = [row for row in rows if row["true"] != row["predicted"] and (row["path"], row["split"]) in numbers]
    for row in sorted(wrong, key=lambda row: -float(row[f"p_{row['predicted']}"])):
        answer, own = (float(row[f"p_{row[which]}"]) for which in ("predicted", "true"))
        note = f"taken for {row['predicted']} ({100 * answer:.0f} %; {row['true']} {100 * own:.0f} %)"
        title = f"The run takes this {row['split']} photo for {row['predicted']}; it is labelled {row['true']}"
        number = numbers[row["path"], row["split"]]
        yield Card("mistakes", "mistake", "", title, stays.get(row["split"], ""), (number,), (note,), row["predicted"])


def suggestion_cards(found: Suggestions) -> Iterator[Card]:
    """A card for each photo that is suggested, in the order of the suggestions; photos are numbered so as well."""
    advice = f"Run {found.run} was asked. Press y where it is right, a number for another class, x where the photo shows none of them."
    for number, photo in enumerate(found.photos):
        shares = [(photo.label, photo.probability), (photo.second, photo.second_probability)]
        note = f"taken for {' or '.join(f'{name} ({100 * share:.0f} %)' for name, share in shares)}"
        yield Card(
            "suggestions", "suggestion", "", "What does this photo show?", advice, (number,), (note,), photo.label
        )
