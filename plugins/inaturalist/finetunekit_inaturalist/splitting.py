"""Which split a photo goes to: one split for all photos by an observer, and of a place with captive animals."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping


def choose_split(observer_id: int, needed: Mapping[str, int], *, seed: int, bound: Collection[str]) -> str | None:
    """The split of an observer's next photo.

    An observer or a place that has a split keeps it. Where neither has one, it is one of those that still need photos, drawn in
    proportion to how many they need by the hash of seed and observer, so that nothing but the order of observers and their numbers
    decides.

    Args:
        observer_id: iNaturalist's number of the person.
        needed: Split → photos of the class that are still missing.
        seed: Another seed splits other observers off.
        bound: Splits that the observer and the place have already.

    Returns:
        The split, or None where it needs no more of this class, or observer and place have different ones.
    """
    if bound:
        split, *others = set(bound)
        return split if not others and needed.get(split, 0) > 0 else None
    open_splits = [(split, count) for split, count in needed.items() if count > 0]
    total = sum(count for _, count in open_splits)
    if total == 0:
        return None
    digest = hashlib.sha256(f"{seed}\0{observer_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") * total >> 64
    for split, count in open_splits:
        if place < count:
            return split
        place -= count
    raise AssertionError("unreachable: place < total")
