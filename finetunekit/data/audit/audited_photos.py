"""The photos that an audit looks at: those that can be used, with what was measured of them, and those that cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.index import IndexedPhoto, indexed_photo
from finetunekit.data.known_photos import Measurements
from finetunekit.data.measure import TRAITS
from finetunekit.data.photo_file import truncated
from finetunekit.types import DISPLAY, PhotoListing


@dataclass(frozen=True, slots=True)
class AuditedPhotos:
    """Photos of the splits that are trained on and scored; display photos are passed over.

    Attributes:
        readable: Photos that can be used, in the listing's order. A file that stands in two splits is there twice.
        traits: `(readable,)` of dtype `TRAITS`.
        unreadable: The others, each with what is wrong with it; those whose end is missing are among them.
        decoded: How many files were decoded; the others were known by their content.
    """

    readable: tuple[IndexedPhoto, ...]
    traits: NDArray[Any]
    unreadable: tuple[tuple[IndexedPhoto, str], ...]
    decoded: int


def audited_photos(listing: PhotoListing, measured: Measurements) -> AuditedPhotos:
    """Sort the photos of a listing by whether they can be used."""
    readable, traits, unreadable = [], [], []
    for record in listing.photos:
        if record.split == DISPLAY:
            continue
        found = measured.photos.get(record.path)
        photo = indexed_photo(record, listing.root, found)
        if found is None:
            unreadable.append((photo, measured.problems[record.path]))
        elif not found.traits["is_whole"]:
            unreadable.append((photo, str(truncated(record.path))))
        else:
            readable.append(photo)
            traits.append(found.traits)
    stacked = np.stack(traits) if traits else np.zeros(0, TRAITS)
    return AuditedPhotos(tuple(readable), stacked, tuple(unreadable), measured.decoded)
