"""What became of a run's photos: its manifest against what lies there now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetunekit.data.index import photo_name
from finetunekit.data.known_photos import KnownPhotos, photo_sha256
from finetunekit.data.parallel import Progress, gather
from finetunekit.errors import DataError
from finetunekit.types import DISPLAY, PhotoListing, PhotoRecord

ChangeKind = Literal["added", "removed", "content", "renamed", "label", "split", "unreadable", "decided"]


@dataclass(frozen=True, slots=True)
class PhotoChange:
    """One photo that is not as it was.

    Attributes:
        kind: `content`: another file lies at the path. `renamed`: the same content lies at another path. `label`, `split`: the same
            content counts as another class or in another split. `unreadable`: something lies there that cannot be read. `decided`: people's
            decisions made something else of it for the run than its source lists.
        path: Where it was; where it is for `added`.
        was: Path, label or split then; empty for `added`. For `decided` the label, group or split as the source lists it.
        now: The same now; empty for `removed`. For `decided` as the run took it; `left out` where it did not.
        by: Whose decision it is, and why; empty where it is nobody's.
    """

    kind: ChangeKind
    path: str
    was: str
    now: str
    by: str = ""


def decided_changes(decided: Sequence[Mapping[str, str]]) -> tuple[PhotoChange, ...]:
    """What decisions changed for a run, of the rows of its `decided.csv`; photos that people were unsure of are as they were."""
    return tuple(
        PhotoChange(
            "decided",
            row["path"],
            row["was"],
            "left out" if row["kind"] == "leave out" else row["now"],
            f"{row['kind']}, {row['who']}{': ' if row['why'] else ''}{row['why']}",
        )
        for row in decided
        if row["kind"] != "unsure"
    )


def photo_changes(
    manifest: Sequence[Mapping[str, str]],
    listing: PhotoListing,
    *,
    known: KnownPhotos | None = None,
    max_pixels: int,
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[PhotoChange, ...]:
    """Compare a run's photos with a listing made now.

    A photo is known again by its path first, by its content else, so that a renamed file is not one removed and one added.

    Args:
        manifest: Rows of the run's `photos.csv`.
        listing: Of the same data source, now, with the same exclusions.
        known: The user's cache of what is known of photos.
        max_pixels: As in the run.
        workers: Number of threads.
        progress: Called with (files done, files in all).

    Returns:
        Every change, by path. Display photos are passed over.
    """
    then = [row for row in manifest if row["split"] != DISPLAY]
    records = [record for record in listing.photos if record.split != DISPLAY]
    sha256 = _checksums([record.path for record in records], known, max_pixels, workers, progress)
    now = [_row(record, listing.root, sha256) for record in records]
    changes = _compared(then, now)
    return tuple(sorted(changes, key=lambda change: (change.path, change.kind)))


def _row(record: PhotoRecord, root: Path, sha256: Mapping[Path, str]) -> dict[str, str]:
    return {
        "path": photo_name(record.path, root),
        "label": record.label or "",
        "split": record.split,
        "sha256": sha256.get(record.path, ""),
    }


def _checksums(
    paths: Sequence[Path], known: KnownPhotos | None, max_pixels: int, workers: int, progress: Progress | None
) -> dict[Path, str]:
    """Checksums of the files that can be read."""
    unchanged = known.unchanged(paths, max_pixels=max_pixels) if known else {}
    unknown = [path for path in dict.fromkeys(paths) if path not in unchanged]

    def attempt(path: Path) -> tuple[Path, str]:
        try:
            return path, photo_sha256(path)
        except DataError:
            return path, ""

    read, _ = gather(attempt, unknown, workers=workers, progress=progress)
    return {path: found.sha256 for path, found in unchanged.items()} | dict(read)


def _compared(then: Sequence[Mapping[str, str]], now: Sequence[Mapping[str, str]]) -> list[PhotoChange]:
    changes: list[PhotoChange] = []
    here = {(row["path"], row["split"]): row for row in now}
    was_here = {(row["path"], row["split"]) for row in then}
    gone = [row for row in then if (row["path"], row["split"]) not in here]
    new = [row for row in now if (row["path"], row["split"]) not in was_here]
    for row in then:
        if (row["path"], row["split"]) in here:
            changes += _in_place(row, here[row["path"], row["split"]])
    by_content: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in new:
        by_content[row["sha256"]].append(row)
    for row in gone:
        moved = by_content[row["sha256"]].pop(0) if by_content.get(row["sha256"]) else None
        changes += _moved(row, moved) if moved else [PhotoChange("removed", row["path"], row["path"], "")]
    left = [row for rows in by_content.values() for row in rows]
    return changes + [PhotoChange("added", row["path"], "", row["path"]) for row in left]


def _in_place(was: Mapping[str, str], now: Mapping[str, str]) -> list[PhotoChange]:
    changes = []
    if not now["sha256"]:
        changes.append(PhotoChange("unreadable", was["path"], was["sha256"], ""))
    elif was["sha256"] != now["sha256"]:
        changes.append(PhotoChange("content", was["path"], was["sha256"], now["sha256"]))
    if was["label"] != now["label"]:
        changes.append(PhotoChange("label", was["path"], was["label"], now["label"]))
    return changes


def _moved(was: Mapping[str, str], now: Mapping[str, str]) -> list[PhotoChange]:
    """The same content elsewhere: what of it differs. A folder layout moves a photo by its label or split, which says it all."""
    changes = [
        PhotoChange(kind, was["path"], was[kind], now[kind]) for kind in ("label", "split") if was[kind] != now[kind]
    ]
    return changes or [PhotoChange("renamed", was["path"], was["path"], now["path"])]
