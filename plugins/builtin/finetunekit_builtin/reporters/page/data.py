"""The photos of a run: counted by class and split, and some of them drawn by its seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from finetunekit import counted

if TYPE_CHECKING:
    from finetunekit import FinishedRun

    Row = Mapping[str, str]

MOST_SAMPLES = 36
SPLITS = ("train", "valid", "test")
_DECISION = ("path", "kind", "was", "now", "who", "why")
_DECISIONS_SHOWN = 40
_DECIDED = {
    "label": "relabelled",
    "leave out": "left out",
    "group": "grouped",
    "split": "moved to the split of the group",
    "unsure": "of which people were unsure, used as listed",
}


def count_photos(run: FinishedRun) -> dict[str, Any] | None:
    """Photos of each class and split, their long sides, and display photos without a label; None where the run has no list of them."""
    if not _photos(run):
        return None
    number = Counter((row["label"], row["split"]) for row in run.photos)
    splits = [split for split in SPLITS if any(row["split"] == split for row in run.photos)]
    rows = [[name, *(f"{number[name, split]:,}" for split in splits)] for name in run.classes]
    total = ["all", *(f"{sum(number[name, split] for name in run.classes):,}" for split in splits)]
    sides = sorted(max(int(row["width_px"]), int(row["height_px"])) for row in run.photos)
    return {"head": ["class", *splits], "rows": [*rows, total], "sides": sides, "display": number["", "display"]}


def samples(run: FinishedRun, per_class: int) -> list[Row]:
    """Training photos of each class."""
    train: dict[str, list[Row]] = {name: [] for name in run.classes[:MOST_SAMPLES]}
    for row in _photos(run):
        if row["split"] == "train" and row["label"] in train:
            train[row["label"]].append(row)
    per_class = min(per_class, max(1, MOST_SAMPLES // len(run.classes)))
    return [row for rows in train.values() for row in choose(rows, per_class, run)]


def choose(rows: Iterable[Row], count: int, run: FinishedRun) -> list[Row]:
    """Draw rows: those with the smallest hash of the run's seed, checksum and path, whatever the order of the rows."""
    seed = int(run.config.get("seed", 0))

    def rank(row: Row) -> bytes:
        return hashlib.sha256(f"{seed}\n{row['sha256']}\n{row['path']}".encode(errors="surrogateescape")).digest()

    return sorted(rows, key=rank)[:count]


def decided_words(run: FinishedRun) -> str:
    """`3 photos relabelled, 1 photo left out`: what decisions changed for the run."""
    counts = Counter(row["kind"] for row in run.decided)
    return ", ".join(f"{counted(counts[kind], 'photo')} {words}" for kind, words in _DECIDED.items() if counts[kind])


def decided_rows(run: FinishedRun) -> list[list[str]]:
    """What decisions changed, a row a photo, the first of them."""
    return [[row[column] for column in _DECISION] for row in run.decided[:_DECISIONS_SHOWN]]


def overlap_rows(run: FinishedRun) -> list[list[str | None]]:
    """Each class, and what the pretraining knew of it."""
    rows = (run.optional("overlap.json") or {}).get("rows", ())
    return [[row[key] for key in ("class", "relation", "by_name", "by_photos")] for row in rows]


def _photos(run: FinishedRun) -> tuple[Row, ...]:
    return run.photos if (run.path / "photos.csv").is_file() else ()
