"""Photos of one group, such as a camera or a place, for the test, and none of them for training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from finetunekit.data.index import IndexedPhoto, PhotoIndex, photo_order
from finetunekit.errors import DataError, did_you_mean
from finetunekit.system.formatting import counted, escaped
from finetunekit.types import DISPLAY, TEST, TRAIN, VALID


def groups_of(index: PhotoIndex) -> tuple[str, ...]:
    """Names of the groups that photos belong to, sorted."""
    return tuple(sorted({photo.group for photo in index.photos if photo.group is not None and photo.split != DISPLAY}))


def reason_to_keep(index: PhotoIndex, group: str) -> str | None:
    """Why a network cannot be trained without a group; None where it can."""
    rest = list(_rest(index, group))
    for split, what in ((TRAIN, "training"), (VALID, "validation")):
        lacking = sorted(set(index.classes) - {photo.label for photo in rest if photo.split == split})
        if lacking:
            named = ", ".join(f"'{escaped(label)}'" for label in lacking[:3])
            return f"without it {counted(len(lacking), 'class', 'classes')} would have no {what} photos: {named}"
    return None


def leave_out(index: PhotoIndex, group: str) -> PhotoIndex:
    """The index for a test on a group that nothing was learnt from.

    Args:
        index: All photos, in the splits they come with.
        group: Its name.

    Returns:
        Every photo of the group as a test photo; of the others those that train and validate, but for copies of the group's photos. The
        test photos of other groups are left aside. Display photos stay where they are none of these; else the test photos are displayed.

    Raises:
        DataError: If there is no such group, or a class would have no photos left to train or validate with.
    """
    groups = groups_of(index)
    if group not in groups:
        what = f"no photo has the group '{escaped(group)}'"
        if not groups:
            what += (
                "; none has a group at all. A table has one in its column `group` (finetunekit data split --group-by)"
            )
        raise DataError(f"{escaped(str(index.root))}: train.leave_out: {what}.{did_you_mean(group, groups)}")
    reason = reason_to_keep(index, group)
    if reason is not None:
        raise DataError(
            f"{escaped(str(index.root))}: train.leave_out: '{escaped(group)}' cannot be left out: {reason}."
        )
    tested = [replace(p, split=TEST) for p in {p.path: p for p in index.photos if p.group == group}.values()]
    kept = [photo for photo in _rest(index, group) if photo.split in (TRAIN, VALID)]
    known = {photo.sha256 for photo in (*tested, *kept)}
    own = [photo for photo in index.photos if photo.split == DISPLAY and photo.sha256 not in known]
    shown = own or [replace(photo, split=DISPLAY) for photo in tested]
    return replace(index, photos=tuple(sorted([*tested, *kept, *shown], key=photo_order)))


def _rest(index: PhotoIndex, group: str) -> Iterator[IndexedPhoto]:
    """Photos that are neither of the group nor copies of its photos."""
    contents = {photo.sha256 for photo in index.photos if photo.group == group}
    return (photo for photo in index.photos if photo.group != group and photo.sha256 not in contents)
