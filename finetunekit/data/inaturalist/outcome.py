"""What a fetch has come to, and where there is less than was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetunekit.data.inaturalist.journal import Journal
from finetunekit.data.inaturalist.tables import photo_folder
from finetunekit.errors import FetchError


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is there now.

    Attributes:
        root: The set's folder.
        images: The folder with the splits, for `data.root`.
        counts: Class → split → photos.
        passed_over: Photos that were asked for and not taken.
        requests: Requests sent by this call; 0 where everything was there already.
        missing: Sentences about classes with fewer photos than asked for.
    """

    root: Path
    images: Path
    counts: Mapping[str, Mapping[str, int]]
    passed_over: int
    requests: int
    missing: tuple[str, ...]


def summarise(journal: Journal, *, sent: int) -> Fetched:
    """What a journal says is there.

    Args:
        journal: Of a fetch that came to its end.
        sent: Requests of this call.

    Raises:
        FetchError: If a split of a class is empty.
    """
    asked = journal.spec.counts.by_split()
    counts = {label: {split: journal.count(label, split) for split in asked} for label in journal.spec.classes}
    missing, empty = [], []
    for label, found in counts.items():
        short = {split: f"{found[split]} of {count} {split}" for split, count in asked.items() if found[split] < count}
        if short:
            missing.append(f"{label}: {', '.join(short.values())}; iNaturalist has no more that fit")
        empty += [f"{label} has no {split} photo" for split in short if not found[split]]
    if empty:
        raise FetchError(
            f"{journal.root}: {'; '.join(empty)}. Allow more licences, grades or photos of one observer, or choose another taxon."
        )
    return Fetched(journal.root, photo_folder(journal.root), counts, len(journal.passed_over), sent, tuple(missing))
