"""What the run learned from: counts, samples, what the audit found, what the backbone had seen before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from finetunekit.reports.html import Html, PageSection, h, join, table

from .album import Album, choose, grid
from .words import count

if TYPE_CHECKING:
    from finetunekit import FinishedRun

MOST_SAMPLES, MOST_FINDINGS, MOST_OF_A_FINDING = 36, 4, 6
SPLITS = ("train", "valid", "test", "display")


def data_section(run: FinishedRun, album: Album, samples_per_class: int) -> PageSection:
    """Counts, samples, audit findings, pretraining overlap."""
    photos = run.photos if (run.path / "photos.csv").is_file() else ()
    parts = [
        *_counts(run, photos),
        *_samples(run, photos, album, samples_per_class),
        *_audit(run, album),
        *_overlap(run),
    ]
    return PageSection("data", "Data", join(parts))


def _counts(run: FinishedRun, photos: tuple[Mapping[str, str], ...]) -> Iterator[Html]:
    if not photos:
        yield h("p", "The run holds no list of its photos (photos.csv).")
        return
    number = Counter((row["label"], row["split"]) for row in photos)
    splits = [split for split in SPLITS if any(row["split"] == split for row in photos)]
    labelled = [split for split in splits if split != "display"]
    rows = [[name, *(f"{number[name, split]:,}" for split in labelled)] for name in run.classes]
    total = ["all", *(f"{sum(number[name, split] for name in run.classes):,}" for split in labelled)]
    yield table(["class", *labelled], [*rows, total], caption="Photos of each class and split", numbers=range(1, 5))
    sides = sorted(max(int(row["width_px"]), int(row["height_px"])) for row in photos)
    more = number["", "display"]
    shown = f" {count(more, 'display photo')} without a label." if more else ""
    yield h(
        "p", f"Long side of a photo: {sides[0]:,} to {sides[-1]:,} px, median {sides[len(sides) // 2]:,} px.{shown}"
    )


def _samples(run: FinishedRun, photos: tuple[Mapping[str, str], ...], album: Album, per_class: int) -> Iterator[Html]:
    train = [row for row in photos if row["split"] == "train"]
    per_class = min(per_class, max(1, MOST_SAMPLES // len(run.classes))) if per_class else 0
    seed = int(run.config.get("seed", 0))
    shown = [
        album.figure(row, name)
        for name in run.classes[:MOST_SAMPLES]
        for row in choose((row for row in train if row["label"] == name), per_class, seed)
    ]
    if shown:
        yield h("h3", "Training photos, drawn by the run's seed")
        yield grid(shown)


def _audit(run: FinishedRun, album: Album) -> Iterator[Html]:
    audit = run.optional("audit.json")
    if audit is None:
        return
    findings = audit["findings"]
    yield h("h3", "What the audit found")
    if not findings:
        yield h("p", "Nothing: no damaged file, no copy within or across splits, no contradictory label.")
    yield h(
        "ul", [h("li", h("strong", f"{one['severity']}: "), f"{one['title']}. {one['remedy']}") for one in findings]
    )
    grave = [one for one in findings if one["severity"] != "note" and one["groups"]]
    for one in grave[:MOST_FINDINGS]:
        seen = [photo for group in one["groups"] for photo in group][:MOST_OF_A_FINDING]
        yield h("p", f"{one['kind']}: {count(len(seen), 'photo')} of those found", at={"class": "muted small"})
        yield grid([album.figure(photo, _seen(photo)) for photo in seen])


def _seen(photo: Mapping[str, Any]) -> str:
    noted = f"; {photo['note']}" if photo.get("note") else ""
    return f"{photo['path']} ({photo['split']}, {photo['label']}){noted}"


def _overlap(run: FinishedRun) -> Iterator[Html]:
    overlap = run.optional("overlap.json")
    if overlap is None:
        return
    yield h("h3", "What the backbone had seen before")
    yield from (h("p", text) for text in overlap["words"])
    rows = [[row["class"], row["relation"], row["by_name"] or "–", row["by_photos"] or "–"] for row in overlap["rows"]]
    head = ["class", "in the pretraining", "by name", "its top labels on the training photos"]
    yield table(head, rows, caption=f"Classes of this task among those of {overlap['pretrained_on']}")
    if overlap.get("caution"):
        yield h("p", h("strong", "Caution. "), overlap["caution"], at={"class": "caution"})
