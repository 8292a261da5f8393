"""Photos of a listing → findings: one pass over the files, then every check."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from finetunekit.data.audit.duplicate_checks import check_duplicates, check_groups
from finetunekit.data.audit.duplicates import find_pairs
from finetunekit.data.audit.file_checks import check_balance, check_looks, check_names, check_sizes, check_unreadable
from finetunekit.data.audit.findings import SEVERITIES, AuditReport, Finding
from finetunekit.data.audit.properties import check_properties
from finetunekit.data.audit.reading import AuditedPhotos, read_photos
from finetunekit.data.audit.store import SignatureStore, open_store
from finetunekit.data.index import check_listing
from finetunekit.system.progress import Progress
from finetunekit.types import SPLITS, PhotoListing

FilesRead = Callable[[AuditedPhotos], Iterable[Finding]]
LOOKED_AT = "files, duplicates, leaks, looks, sizes, balance, file properties"


def audit_listing(
    listing: PhotoListing,
    *,
    max_pixels: int,
    fed_px: int | None = None,
    known_sha256: Mapping[Path, str] | None = None,
    workers: int = 2,
    progress: Progress,
    further: FilesRead | None = None,
    looked_at: tuple[str, ...] = (),
) -> AuditReport:
    """Look at the photos of a listing; nothing is changed, and no network sees a photo.

    Args:
        listing: From a data source.
        max_pixels: Photos whose header claims more are refused.
        fed_px: Side of the network's input, if it is known.
        known_sha256: Checksums of files that were read a moment before.
        workers: Number of threads.
        progress: Says what is under way.
        further: Checks that need more than files; called with what was read.
        looked_at: What they look at, or why they do not.

    Returns:
        Findings, errors first.
    """
    started = time.perf_counter()
    with open_store(progress.say) as store:
        photos = read_photos(
            listing,
            store,
            max_pixels=max_pixels,
            known_sha256=known_sha256,
            workers=workers,
            count=progress.counter("looking at photos"),
        )
        found = [*_check_layout(listing), *check_files(photos, store, fed_px, progress)]
    found += further(photos) if further is not None else ()
    return AuditReport(
        root=str(listing.root),
        photos=_count_splits(listing),
        classes=_count_classes(photos),
        sizes=_sizes(photos),
        stand_in=listing.stand_in,
        findings=tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))),
        looked_at=(LOOKED_AT, *looked_at),
        seconds=round(time.perf_counter() - started, 2),
        measured=photos.measured,
    )


def check_files(
    photos: AuditedPhotos, store: SignatureStore, fed_px: int | None, progress: Progress
) -> Iterator[Finding]:
    """Every check that needs files only."""
    yield from check_unreadable(photos)
    names = [photo.sha256 for photo in photos.readable]
    pairs = find_pairs(names, photos.traits["contrast"], store, count=progress.counter("comparing photos"))
    yield from check_duplicates(photos.readable, pairs)
    yield from check_groups(photos.readable)
    yield from check_names(photos)
    yield from check_looks(photos)
    yield from check_balance(photos.readable)
    yield from check_properties(photos.readable, photos.traits)
    yield from check_sizes(photos, fed_px)


def _check_layout(listing: PhotoListing) -> Iterator[Finding]:
    for line in check_listing(listing):
        title, _, remedy = line.partition(". ")
        yield Finding("layout", "error", title, remedy)


def _count_splits(listing: PhotoListing) -> dict[str, int]:
    return {split: sum(record.split == split for record in listing.photos) for split in SPLITS}


def _count_classes(photos: AuditedPhotos) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for photo in photos.readable:
        of = counts.setdefault(photo.label, {})
        of[photo.split] = of.get(photo.split, 0) + 1
    return {name: counts[name] for name in sorted(counts)}


def _sizes(photos: AuditedPhotos) -> dict[str, list[int]]:
    if not len(photos.traits):
        return {}
    return {
        name: [int(value) for value in np.quantile(photos.traits[name], (0, 0.5, 1), method="nearest")]
        for name in ("width_px", "height_px")
    }
