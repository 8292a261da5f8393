"""Decisions about photos, applied to a listing: other labels, photos left out, photos that stay together. No photo is touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from finetunekit.data.decisions import Decision, in_force, read_decisions
from finetunekit.data.exclusions import PhotosByName, has_changed
from finetunekit.data.index import photo_name, shown_name
from finetunekit.data.parallel import bounded
from finetunekit.data.splitting import merge_groups
from finetunekit.errors import DataError
from finetunekit.system.formatting import escaped
from finetunekit.system.user_dirs import expand_home
from finetunekit.types import DISPLAY, PhotoListing, PhotoRecord


@dataclass(frozen=True, slots=True)
class DecidedPhoto:
    """What a decision made of a photo.

    Attributes:
        number: Of the decision.
        when: It was made, as the file says.
        who: Made it.
        path: As tables hold it.
        sha256: Of the file when it was decided.
        split: The photo was listed in.
        kind: `label`, `leave out`, `group`, `unsure`; or `split`: it went with the other photos of its group.
        was: Its label, group or split as listed.
        now: The same as the run takes it; empty for `leave out`.
        why: As the file says.
    """

    number: int
    when: str
    who: str
    path: str
    sha256: str
    split: str
    kind: str
    was: str
    now: str
    why: str


def apply_decisions(
    listing: PhotoListing, file: Path, *, listed: PhotoListing | None = None
) -> tuple[PhotoListing, tuple[DecidedPhoto, ...]]:
    """A listing as decisions have it.

    Of several decisions about a photo that were not undone, the last one counts; groups are apart from that. A decision whose photo holds
    something else now than when it was decided is passed over and noted. Where a source dealt the photos into splits itself, photos of one
    group go to the split that most of them are in; splits that photos came with stay.

    Args:
        listing: What to change.
        file: Of decisions.
        listed: Photos that may be decided about although they are not in `listing`, since they were left out before; None: none.

    Returns:
        The listing, with a note that counts what was changed; and what was changed or is unsure, in the order of the decisions.

    Raises:
        DataError: Every problem at once: a file that cannot be read, a photo that is not there and was not left out.
    """
    places = _Places(listed or listing, file)
    about = places.decided(in_force(read_decisions(expand_home(file))))
    verdicts = {path: one for path, one in about if one.kind != "group"}
    groups = {path: one for path, one in about if one.kind == "group"}
    made: list[DecidedPhoto] = []
    photos = []
    for photo in listing.photos:
        decision = verdicts.get(photo.path)
        if decision is not None and decision.kind != "keep":
            made += _made(decision, photo, listing.root)
        if decision is None or decision.kind != "leave out":
            photos.append(_relabelled(photo, decision))
    photos, grouped = _grouped(photos, groups, listing)
    made = sorted([*made, *grouped], key=lambda one: one.number)
    changed = replace(listing, photos=tuple(photos), notes=(*listing.notes, *_notes(file, made), *places.notes))
    return changed, tuple(made)


class _Places:
    """Which photo each decision is about.

    Attributes:
        notes: Decisions that were passed over.
    """

    def __init__(self, listing: PhotoListing, file: Path) -> None:
        self._photos, self._file, self._root = PhotosByName(listing), escaped(str(file)), listing.root
        self.notes: list[str] = []

    def decided(self, decisions: Sequence[Decision]) -> list[tuple[Path, Decision]]:
        found: list[tuple[Path, Decision]] = []
        problems, outdated = [], []
        for decision in decisions:
            records = self._photos.called(decision.path)
            if not records and decision.kind in ("label", "group"):
                problems.append(
                    f"{self._file}: decision {decision.number}: no photo '{shown_name(decision.path)}' below "
                    f"{escaped(str(self._root))}. Take the line out, or name another file with data.decisions."
                )
            for path in dict.fromkeys(record.path for record in records):
                if decision.kind != "keep" and decision.sha256 and has_changed(path, decision.sha256):
                    outdated.append(shown_name(decision.path))
                else:
                    found.append((path, decision))
        if problems:
            raise DataError(bounded(problems))
        self.notes += [
            f"{self._file}: '{name}' has changed since the decision about it, which is skipped"
            for name in bounded([*dict.fromkeys(outdated)])
        ]
        return found


def _relabelled(photo: PhotoRecord, decision: Decision | None) -> PhotoRecord:
    is_meant = decision is not None and decision.kind == "label" and photo.split != DISPLAY
    return replace(photo, label=decision.now) if decision is not None and is_meant else photo


def _made(decision: Decision, photo: PhotoRecord, root: Path) -> Iterator[DecidedPhoto]:
    was = photo.label or ""
    now = {"label": decision.now, "unsure": was}.get(decision.kind, "")
    if photo.split != DISPLAY and (decision.kind != "label" or now != was):
        yield _row(decision, photo, root, decision.kind, was, now)


def _row(decision: Decision, photo: PhotoRecord, root: Path, kind: str, was: str, now: str) -> DecidedPhoto:
    name = photo_name(photo.path, root)
    return DecidedPhoto(
        decision.number, decision.when, decision.who, name, decision.sha256, photo.split, kind, was, now, decision.why
    )


def _grouped(
    photos: list[PhotoRecord], decided: Mapping[Path, Decision], listing: PhotoListing
) -> tuple[list[PhotoRecord], list[DecidedPhoto]]:
    """Photos with their groups; a decided group joins those that the source names."""
    if not decided:
        return photos, []
    own = {path: one.now for path, one in decided.items() if one.now}
    cleared = {path for path, one in decided.items() if not one.now}
    source = [None if photo.path in cleared else photo.group for photo in photos]
    first = merge_groups([source, [own.get(photo.path) for photo in photos]])
    joined = {at for at, photo in zip(first, photos, strict=True) if photo.path in decided}
    names: dict[int, str] = {}
    for at, photo, group in zip(first, photos, source, strict=True):
        if at in joined and (name := group or own.get(photo.path)):
            names.setdefault(at, name)
    found = [
        replace(photo, group=names.get(at)) if at in joined else photo for at, photo in zip(first, photos, strict=True)
    ]
    because = {photo.group: decided[photo.path] for photo in found if photo.path in decided and photo.group is not None}
    homes = _homes(found, set(because), listing.dealt)
    made: list[DecidedPhoto] = []
    for i, photo in enumerate(found):
        decision = decided.get(photo.path) or because.get(photo.group or "")
        if decision is None or photo.split == DISPLAY:
            continue
        found[i] = replace(photo, split=homes.get(photo.group or "", photo.split))
        if photos[i].group != photo.group:
            made.append(_row(decision, photo, listing.root, "group", photos[i].group or "", photo.group or ""))
        if found[i].split != photo.split:
            made.append(_row(decision, photo, listing.root, "split", photo.split, found[i].split))
    return found, made


def _homes(photos: Sequence[PhotoRecord], groups: Set[str], dealt: Sequence[str]) -> dict[str, str]:
    """The split that most photos of a group are in, the first of several; only for groups whose photos the source dealt into splits."""
    counts: dict[str, Counter[str]] = {}
    for photo in photos:
        if photo.group in groups and photo.split != DISPLAY:
            counts.setdefault(photo.group or "", Counter())[photo.split] += 1
    return {group: max(dealt, key=of.__getitem__) for group, of in counts.items() if of.keys() <= {*dealt}}


_WORDS = {
    "label": "relabelled",
    "leave out": "left out",
    "group": "grouped",
    "split": "moved to the split of their group",
}


def _notes(file: Path, made: Sequence[DecidedPhoto]) -> Iterator[str]:
    counts = Counter(one.kind for one in made)
    said = [f"{counts[kind]:,} {words}" for kind, words in _WORDS.items() if counts[kind]]
    if counts["unsure"]:
        said.append(f"{counts['unsure']:,} unsure, which changes nothing")
    if said:
        yield f"data.decisions: {escaped(str(file))}: photos {', '.join(said)}"
