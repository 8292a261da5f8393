"""Findings on single photos and on the set as a whole, from files and light statistics; no label of a test photo is used but to count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.audit.audited_photos import AuditedPhotos
from finetunekit.data.audit.findings import Finding, exclude, photos_of, see
from finetunekit.data.index import IndexedPhoto
from finetunekit.data.measure import COLOURLESS
from finetunekit.types import TRAIN

#: Standard deviation of grey levels below which a photo shows nothing.
BLANK = 5.0
#: A photo whose 99th percentile of grey levels is below this is dark; one whose 1st percentile is above `BRIGHT` is bright.
DARK, BRIGHT = 64, 192
#: `Signature.sharpness` below this is blurred: a Gaussian blur of 2 pixels at a side of 320 gives 0.27, sharp photos have 0.32 and above.
BLURRED = 0.29
#: Sides whose quotient is above this are much distorted when stretched to a square.
LONG = 3.0
#: Largest class over smallest, in training: noted, and warned of.
UNEVEN, VERY_UNEVEN = 2.0, 5.0


def check_unreadable(photos: AuditedPhotos) -> Iterator[Finding]:
    """Files that no photo can be read from, truncated ones among them."""
    if not photos.unreadable:
        return
    yield Finding(
        "unreadable",
        "error",
        f"{photos_of(len(photos.unreadable))} cannot be read",
        "Copy them again, or leave them out (--fix).",
        tuple((see(photo, _cause(problem)),) for photo, problem in photos.unreadable),
        tuple(exclude(photo, f"cannot be read: {_cause(problem)}") for photo, problem in photos.unreadable),
    )


def _cause(problem: str) -> str:
    """What is wrong, without the path before it and the advice after it."""
    return problem.split(": ", 1)[-1].rsplit(". ", 1)[0]


def check_names(photos: AuditedPhotos) -> Iterator[Finding]:
    """Files whose ending names another format than their content has."""
    from PIL import Image

    from finetunekit.data.photo_file import photo_suffixes

    photo_suffixes()  # registers every format
    alike = {"MPO": "JPEG", "HEIF": "AVIF"}
    promised = Image.registered_extensions()
    groups = []
    for photo, traits in zip(photos.readable, photos.traits, strict=True):
        found, named = traits["format"].decode(), promised.get(Path(photo.path).suffix.lower(), "")
        if named and alike.get(found, found) != alike.get(named, named)[:8]:
            groups.append((see(photo, f"named as {named}, is {found}"),))
    if groups:
        yield Finding(
            "misnamed",
            "warning",
            f"{photos_of(len(groups))} named as another format than they are",
            "They are read by their content; rename them before other programs read them.",
            tuple(groups),
        )


_Rule = tuple[str, str, Callable[[NDArray[Any]], NDArray[np.bool_]], Callable[[Any], str], str]
_LOOKS: tuple[_Rule, ...] = (
    (
        "blank",
        "show nothing",
        lambda t: t["contrast"] < BLANK,
        lambda t: f"contrast {t['contrast']:.1f} of 255",
        "Leave them out (--fix), unless an empty picture is what the class means.",
    ),
    (
        "dark",
        "are dark",
        lambda t: (t["brightest"] < DARK) & (t["contrast"] >= BLANK),
        lambda t: f"brightest {t['brightest']:.0f} of 255",
        "Check whether the subject can be seen.",
    ),
    (
        "bright",
        "are washed out",
        lambda t: (t["darkest"] > BRIGHT) & (t["contrast"] >= BLANK),
        lambda t: f"darkest {t['darkest']:.0f} of 255",
        "Check whether the subject can be seen.",
    ),
    (
        "blurred",
        "are blurred",
        lambda t: (t["sharpness"] < BLURRED) & (t["contrast"] >= BLANK),
        lambda t: f"sharpness {t['sharpness']:.2f}, sharp photos are above 0.32",
        "Check whether the subject can be recognised.",
    ),
)


def check_looks(photos: AuditedPhotos) -> Iterator[Finding]:
    """Blank, dark, washed-out and blurred photos; photos without colour among coloured ones."""
    for kind, words, rule, tell, remedy in _LOOKS:
        chosen = np.flatnonzero(rule(photos.traits))
        if len(chosen):
            yield Finding(
                kind,
                "warning",
                f"{photos_of(len(chosen))} {words}",
                remedy,
                tuple((see(photos.readable[i], tell(photos.traits[i])),) for i in chosen),
                tuple(exclude(photos.readable[i], "shows nothing") for i in chosen) if kind == "blank" else (),
            )
    is_grey = (photos.traits["colour"] <= COLOURLESS) & (photos.traits["contrast"] >= BLANK)
    if 0 < is_grey.sum() < len(is_grey) / 2:
        yield Finding(
            "grey",
            "note",
            f"{photos_of(int(is_grey.sum()))} without colour among {len(is_grey):,}",
            "Nothing to do, unless one class has most of them.",
            tuple((see(photos.readable[i]),) for i in np.flatnonzero(is_grey)),
        )


def check_sizes(photos: AuditedPhotos, fed_px: int | None) -> Iterator[Finding]:
    """Photos smaller than the network's input, and photos much longer than wide."""
    width, height = photos.traits["width_px"].astype(np.int64), photos.traits["height_px"].astype(np.int64)
    if fed_px is not None:
        shorter = np.minimum(width, height)
        small = np.flatnonzero(shorter < fed_px)
        if len(small):
            yield Finding(
                "small",
                "warning" if np.median(shorter) < fed_px / 2 else "note",
                f"{photos_of(len(small))} of {len(width):,} smaller than the {fed_px} px they are fed at",
                "Enlarging adds no detail: a smaller pixels.size_px costs less and may score the same.",
                tuple((see(photos.readable[i], f"{width[i]} x {height[i]} px"),) for i in small),
            )
    longer = np.maximum(width, height) / np.maximum(np.minimum(width, height), 1)
    long = np.flatnonzero(longer > LONG)
    if len(long):
        yield Finding(
            "long",
            "note",
            f"{photos_of(len(long))} more than {LONG:g} times as long as wide",
            "Stretched to a square they are distorted; pixels.fit: crop cuts their ends off, pad makes them small.",
            tuple((see(photos.readable[i], f"{width[i]} x {height[i]} px"),) for i in long),
        )


def check_balance(photos: Sequence[IndexedPhoto]) -> Iterator[Finding]:
    """Classes with many more training photos than others."""
    counts: dict[str, int] = {}
    for photo in photos:
        if photo.split == TRAIN:
            counts[photo.label] = counts.get(photo.label, 0) + 1
    if len(counts) < 2:
        return
    most, least = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    times = counts[most] / counts[least]
    if times >= UNEVEN:
        yield Finding(
            "imbalance",
            "warning" if times >= VERY_UNEVEN else "note",
            f"{most} has {counts[most]:,} training photos, {least} {counts[least]:,}: {times:.1f} times as many",
            "Read the scores of each class, not the accuracy alone.",
            facts={"train": dict(sorted(counts.items()))},
        )
