"""Findings on photos that are there more than once: leaks between splits, contradictory labels, copies within a split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from finetunekit.data.audit.duplicates import DuplicatePair, clusters
from finetunekit.data.audit.findings import Exclusion, Finding, Seen, Severity, exclude, see
from finetunekit.data.index import IndexedPhoto
from finetunekit.types import TEST, TRAIN, VALID

#: Of one photo in several splits, the file in the first of these stays: what is scored must not be trained on.
_STAYS = (TEST, VALID, TRAIN)


def check_duplicates(photos: Sequence[IndexedPhoto], pairs: Sequence[DuplicatePair]) -> Iterator[Finding]:
    """One finding each on leaks, contradictory labels and copies within a split, with every cluster of files of one photo."""
    told = _told_of(pairs)
    leaks, conflicts, copies = _Collected(), _Collected(), _Collected()
    for cluster in clusters(len(photos), pairs):
        ordered = sorted(cluster, key=lambda position: (_STAYS.index(photos[position].split), position))
        members = [photos[position] for position in ordered]
        place = {position: number for number, position in enumerate(ordered)}
        seen = tuple(see(photos[position], _how(position, place, told.get(position, {}))) for position in ordered)
        if len({photo.label for photo in members}) > 1:
            labels = ", ".join(sorted({photo.label for photo in members}))
            conflicts.add(seen, [exclude(photo, f"one photo labelled {labels}: which is right?") for photo in members])
            leaks.add_if(_is_leak(members), seen, [])
        else:
            stays = members[0]
            reasons = [exclude(photo, _reason(photo, stays)) for photo in members[1:]]
            (leaks if _is_leak(members) else copies).add(seen, reasons)
    yield from _findings(leaks, conflicts, copies)


def check_groups(photos: Sequence[IndexedPhoto]) -> Iterator[Finding]:
    """Groups that the data source names, such as one animal, with photos in several splits."""
    members: dict[str, list[IndexedPhoto]] = {}
    for photo in photos:
        if photo.group is not None:
            members.setdefault(photo.group, []).append(photo)
    torn = {name: found for name, found in members.items() if _is_leak(found)}
    if torn:
        yield Finding(
            "group",
            "warning",
            f"{len(torn):,} of {len(members):,} groups have photos in more than one split",
            "The score would be about animals or bursts that were trained on: split by group (finetunekit data split).",
            tuple(tuple(see(photo, f"group {name}") for photo in found) for name, found in torn.items()),
        )


def _findings(leaks: _Collected, conflicts: _Collected, copies: _Collected) -> Iterator[Finding]:
    if leaks.groups:
        remedy = "What is trained on must not be scored: leave the training side out (--fix)."
        yield leaks.finding("leak", "error", "in more than one split", remedy)
    if conflicts.groups:
        remedy = "Say which label is right and remove the other file, or leave all of them out (--fix)."
        yield conflicts.finding("conflict", "error", "with more than one label", remedy)
    if copies.groups:
        remedy = "Each copy counts again: leave the copies out (--fix)."
        yield copies.finding("duplicate", "warning", "more than once within a split", remedy)


class _Collected:
    def __init__(self) -> None:
        self.groups: list[tuple[Seen, ...]] = []
        self.exclusions: list[Exclusion] = []

    def add(self, group: tuple[Seen, ...], exclusions: list[Exclusion]) -> None:
        self.groups.append(group)
        self.exclusions += exclusions

    def add_if(self, is_wanted: bool, group: tuple[Seen, ...], exclusions: list[Exclusion]) -> None:
        if is_wanted:
            self.add(group, exclusions)

    def finding(self, kind: str, severity: Severity, where: str, remedy: str) -> Finding:
        files = sum(len(group) for group in self.groups)
        photos = "1 photo is" if len(self.groups) == 1 else f"{len(self.groups):,} photos are"
        title = f"{photos} there as {files:,} files, {where}"
        return Finding(kind, severity, title, remedy, tuple(self.groups), tuple(self.exclusions))


def _is_leak(members: Sequence[IndexedPhoto]) -> bool:
    return len({photo.split for photo in members}) > 1


def _told_of(pairs: Sequence[DuplicatePair]) -> dict[int, dict[int, DuplicatePair]]:
    """Of each photo the pairs that it is in, by the other photo."""
    told: dict[int, dict[int, DuplicatePair]] = {}
    for pair in pairs:
        told.setdefault(pair.first, {})[pair.second] = pair
        told.setdefault(pair.second, {})[pair.first] = pair
    return told


def _how(position: int, place: Mapping[int, int], told: Mapping[int, DuplicatePair]) -> str:
    """How a file of a cluster is told to be the photo of the first one, or of another where it was not compared with the first."""
    earlier = [other for other in told if place[other] < place[position]]
    if not earlier:
        return ""
    other = min(earlier, key=lambda one: place[one])
    words = told[other].words(is_reversed=position < other)
    return words if told[other].relation is None else f"{words} ({told[other].likeness:.2f})"


def _reason(photo: IndexedPhoto, stays: IndexedPhoto) -> str:
    if photo.split == stays.split:
        return f"duplicate of {stays.shown}, which stays"
    return f"leak: the photo of {stays.shown}, which stays in {stays.split}"
