"""Photos of a listing → findings: one pass over the files, then every check."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from finetunekit.data.audit.audited_photos import AuditedPhotos, audited_photos
from finetunekit.data.audit.duplicate_checks import check_duplicates, check_groups
from finetunekit.data.audit.duplicates import find_pairs
from finetunekit.data.audit.file_checks import check_balance, check_looks, check_names, check_sizes, check_unreadable
from finetunekit.data.audit.findings import SEVERITIES, AuditReport, Finding
from finetunekit.data.audit.properties import check_properties
from finetunekit.data.index import check_listing
from finetunekit.data.known_photos import KnownPhotos, Measurements, measure_photos
from finetunekit.system.progress import Progress
from finetunekit.types import DISPLAY, SPLITS, PhotoListing

FilesRead = Callable[[AuditedPhotos], Iterable[Finding]]
LOOKED_AT = "files, duplicates, leaks, looks, sizes, balance, file properties"


def audit_listing(
    listing: PhotoListing,
    *,
    max_pixels: int,
    known: KnownPhotos,
    fed_px: int | None = None,
    progress: Progress,
    further: FilesRead | None = None,
    looked_at: tuple[str, ...] = (),
) -> AuditReport:
    """Look at the photos of a listing; nothing is changed, and no network sees a photo.

    Args:
        listing: From a data source.
        max_pixels: Photos whose header claims more are refused.
        known: The user's cache of what is known of photos.
        fed_px: Side of the network's input, if it is known.
        progress: Says what is under way.
        further: Checks that need more than files; called with what was read.
        looked_at: What they look at, or why they do not.

    Returns:
        Findings, errors first.
    """
    started = time.perf_counter()
    paths = [record.path for record in listing.photos if record.split != DISPLAY]
    count = progress.counter("looking at photos")
    measured = measure_photos(paths, max_pixels=max_pixels, known=known, progress=count)
    report = audit_measured(listing, measured, known, fed_px=fed_px, progress=progress, further=further)
    seconds = round(time.perf_counter() - started, 2)
    return replace(report, looked_at=(LOOKED_AT, *looked_at), seconds=seconds)


def audit_measured(
    listing: PhotoListing,
    measured: Measurements,
    known: KnownPhotos,
    *,
    fed_px: int | None = None,
    progress: Progress,
    further: FilesRead | None = None,
) -> AuditReport:
    """As `audit_listing`, of photos that were measured."""
    started = time.perf_counter()
    photos = audited_photos(listing, measured)
    found = [*_check_layout(listing), *check_files(photos, known, fed_px, progress)]
    found += further(photos) if further is not None else ()
    return AuditReport(
        root=str(listing.root),
        photos=_count_splits(listing),
        classes=_count_classes(photos),
        sizes=_sizes(photos),
        stand_in=listing.stand_in,
        findings=tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))),
        looked_at=(LOOKED_AT,),
        seconds=round(time.perf_counter() - started, 2),
        decoded=photos.decoded,
    )


def check_files(photos: AuditedPhotos, known: KnownPhotos, fed_px: int | None, progress: Progress) -> Iterator[Finding]:
    """Every check that needs files only."""
    yield from check_unreadable(photos)
    names = [photo.sha256 for photo in photos.readable]
    sizes = np.stack([photos.traits["width_px"], photos.traits["height_px"]], axis=1).astype(np.float64)
    pairs = find_pairs(names, photos.traits["contrast"], sizes, known, count=progress.counter("comparing photos"))
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
