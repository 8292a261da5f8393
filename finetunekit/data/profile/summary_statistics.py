"""Statistics of a set of photos: how many, how large, of which kind, how bright."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetunekit.data.known_photos import KnownPhotos, measure_photos
from finetunekit.data.measure import COLOURLESS, Traits, measure_header
from finetunekit.data.parallel import Progress, gather
from finetunekit.data.profile.photo_set import PhotoSet
from finetunekit.errors import DataError
from finetunekit.types import DISPLAY, SPLITS, PhotoRecord, PixelContract

QUANTILES: Mapping[str, float] = {"min": 0.0, "p05": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
#: Quantity → what it is of a photo.
_QUANTITIES: Mapping[str, Callable[[Traits], float]] = {
    "width_px": lambda photo: photo["width_px"],
    "height_px": lambda photo: photo["height_px"],
    "short_side_px": lambda photo: min(photo["width_px"], photo["height_px"]),
    "aspect_ratio": lambda photo: photo["width_px"] / photo["height_px"],
    "size_kb": lambda photo: photo["size_bytes"] / 1000,
}


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Mean and standard deviation of each channel over the photos of a split.

    Every photo weighs the same, however large it is. In the order and the units of the pixel contract.

    Attributes:
        photos: How many.
        mean: One a channel.
        std: One a channel.
    """

    photos: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """A class at a glance; one that differs from the others here can be told by its source.

    Attributes:
        photos: Photos in all splits.
        counts: Split → photos.
        median_width_px: Of its photos.
        median_height_px: Of its photos.
        median_size_kb: Of its files.
        formats: Format → photos.
        grey: Photos without colour; None where pixels were not read.
    """

    photos: int
    counts: Mapping[str, int]
    median_width_px: float
    median_height_px: float
    median_size_kb: float
    formats: Mapping[str, int]
    grey: int | None


@dataclass(frozen=True, slots=True)
class SetStatistics:
    """What is known of a set after every photo was looked at.

    Attributes:
        name: Of the set.
        root: Where it lies.
        stand_in: The sentence that says so if these are not the user's photos.
        photos: Photos that could be read.
        unreadable: One line for each that could not.
        counts: Split → photos.
        classes: Class → its statistics.
        quantiles: Quantity → name of the quantile → value.
        formats: Format → photos.
        modes: Mode → photos.
        orientations: EXIF orientation → photos, those from 2 to 8: stored turned or mirrored.
        grey: Photos without colour; None where pixels were not read.
        contract: What the channels' numbers mean, in words.
        order: Channel order.
        channels: Split → its channels; empty where pixels were not read.
    """

    name: str
    root: str
    stand_in: str | None
    photos: int
    unreadable: tuple[str, ...]
    counts: Mapping[str, int]
    classes: Mapping[str, ClassStatistics]
    quantiles: Mapping[str, Mapping[str, float]]
    formats: Mapping[str, int]
    modes: Mapping[str, int]
    orientations: Mapping[str, int]
    grey: int | None
    contract: str
    order: str
    channels: Mapping[str, ChannelStatistics]


def measure_set(
    photos: PhotoSet, *, has_pixels: bool = True, known: KnownPhotos | None = None, progress: Progress | None = None
) -> SetStatistics:
    """Look at every photo of the splits once; photos that are only shown (`display`) are passed over.

    Args:
        photos: The set.
        has_pixels: Whether photos are decoded, for channels and grey ones; without, headers are read only.
        known: The user's cache of what is known of photos; what is found is added where photos are decoded.
        progress: Called with (photos done, photos in all).

    Raises:
        DataError: If no photo can be read.
    """
    records = [record for record in photos.listing.photos if record.split != DISPLAY]
    paths = list(dict.fromkeys(record.path for record in records))
    if has_pixels:
        measured = measure_photos(paths, max_pixels=photos.max_pixels, known=known, progress=progress)
        by_path = {path: found.traits for path, found in measured.photos.items()}
        problems = [*measured.problems.values()]
    else:
        headers, problems = gather(
            lambda path: (path, measure_header(path, max_pixels=photos.max_pixels)), paths, workers=2, progress=progress
        )
        by_path = dict(headers)
    if not by_path:
        raise DataError(problems[:1] or f"{photos.listing.root}: holds no photos.")
    pairs = [(record, by_path[record.path]) for record in records if record.path in by_path]
    return _summary(photos, pairs, tuple(problems), has_pixels)


def _summary(
    photos: PhotoSet,
    pairs: Sequence[tuple[PhotoRecord, Traits]],
    problems: tuple[str, ...],
    has_pixels: bool,
) -> SetStatistics:
    found = [one for _, one in pairs]
    turned = Counter(str(one["orientation"]) for one in found if one["orientation"] > 1)
    of_label: dict[str, list[tuple[PhotoRecord, Traits]]] = {}
    for record, one in pairs:
        of_label.setdefault(record.label or "", []).append((record, one))
    return SetStatistics(
        name=photos.name,
        root=str(photos.listing.root),
        stand_in=photos.listing.stand_in,
        photos=len(found),
        unreadable=problems,
        counts=_by_split(pairs),
        classes={label: _of_class(of_label[label], has_pixels) for label in sorted(of_label)},
        quantiles={name: _quantiles([of(one) for one in found]) for name, of in _QUANTITIES.items()},
        formats=_most_first(one["format"].decode() for one in found),
        modes=_most_first(one["mode"].decode() for one in found),
        orientations=dict(sorted(turned.items())),
        grey=_grey(found) if has_pixels else None,
        contract=photos.contract_name,
        order=photos.contract.order,
        channels=_channels(pairs, photos.contract) if has_pixels else {},
    )


def _by_split(pairs: Iterable[tuple[PhotoRecord, Traits]]) -> dict[str, int]:
    counted = Counter(record.split for record, _ in pairs)
    return {split: counted[split] for split in SPLITS if counted[split]}


def _of_class(pairs: Sequence[tuple[PhotoRecord, Traits]], has_pixels: bool) -> ClassStatistics:
    found = [one for _, one in pairs]
    return ClassStatistics(
        photos=len(found),
        counts=_by_split(pairs),
        median_width_px=float(np.median([one["width_px"] for one in found])),
        median_height_px=float(np.median([one["height_px"] for one in found])),
        median_size_kb=float(np.median([one["size_bytes"] / 1000 for one in found])),
        formats=_most_first(one["format"].decode() for one in found),
        grey=_grey(found) if has_pixels else None,
    )


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    return {
        name: float(value) for name, value in zip(QUANTILES, np.quantile(values, [*QUANTILES.values()]), strict=True)
    }


def _most_first(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _grey(found: Iterable[Traits]) -> int:
    return sum(bool(one["colour"] <= COLOURLESS) for one in found)


def _channels(pairs: Sequence[tuple[PhotoRecord, Traits]], contract: PixelContract) -> dict[str, ChannelStatistics]:
    splits = {split: [one for record, one in pairs if record.split == split] for split in SPLITS}
    return {split: channel_statistics(found, contract) for split, found in splits.items() if found}


def channel_statistics(found: Sequence[Traits], contract: PixelContract) -> ChannelStatistics:
    """Mean and standard deviation of the pixels of photos that weigh the same, as a network fed by the contract would meet them.

    Args:
        found: Photos whose pixels were read.
        contract: `(order(pixels) * scale - mean) / std`, so that means go through it and deviations are scaled.
    """
    means = [math.fsum(one["mean"][i] for one in found) / len(found) for i in range(3)]
    squares = [math.fsum(one["mean_square"][i] for one in found) / len(found) for i in range(3)]
    order = range(3) if contract.order == "rgb" else range(2, -1, -1)
    fed = [
        (
            (means[i] * contract.scale - contract.mean[place]) / contract.std[place],
            math.sqrt(max(0.0, squares[i] - means[i] ** 2)) * contract.scale / contract.std[place],
        )
        for place, i in enumerate(order)
    ]
    return ChannelStatistics(len(found), tuple(mean for mean, _ in fed), tuple(std for _, std in fed))


def shown_root(root: str) -> str:
    """A folder relative to the working directory where it lies below it."""
    path = Path(root)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else root
