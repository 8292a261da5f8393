"""Names of the splits, and how photos without one are split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

from pydantic import Field, model_validator

from finetunekit import DataError, Options, PhotoRecord, split_by_class
from finetunekit_builtin.names import plain

#: Split → what its folder, or its rows in a table, may be called, in any case.
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
    "display": ("display",),
}
SCORED = ("train", "valid", "test")
FEWEST_TO_SPLIT = 3


class SplitOptions(Options):
    """Options of sources that split photos which come without splits; ignored where they come with them."""

    split: bool = Field(
        default=True,
        description="Whether to split photos that come without splits; false: all of them are training photos.",
    )
    valid_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Fraction of each class that becomes validation photos."
    )
    test_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Fraction of each class that becomes test photos."
    )
    split_seed: int = Field(
        default=0, ge=0, description="Seed of the split; independent of the run's seed, so that runs share a test set."
    )

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if self.valid_fraction + self.test_fraction >= 1:
            raise ValueError("valid_fraction and test_fraction must add up to less than 1")
        return self


def split_called(name: str) -> str | None:
    """The split that a name means; None if it means none."""
    folded = name.strip().lower()
    return next((split for split, names in SPLIT_NAMES.items() if folded in names), None)


def complete_splits(
    photos: Sequence[PhotoRecord], keys: Sequence[str], options: SplitOptions, where: str
) -> tuple[list[PhotoRecord], tuple[str, ...], list[str]]:
    """Give photos that all stand in train the splits that are missing: valid and test, or valid alone.

    Args:
        photos: Photos as listed.
        keys: What the place of each photo is drawn from, unless it has a group.
        options: Fractions and seed.
        where: What is being listed, for the note.

    Returns:
        The photos, the splits that they were dealt into, and a note if they were.

    Raises:
        DataError: If a class has too few photos to be split.
    """
    if not options.split:
        return list(photos), (), []
    there = {photo.split for photo in photos}
    missing = [split for split in ("valid", "test") if split not in there]
    if not missing or missing == ["test"] or "train" not in there:
        return list(photos), (), []
    chosen = [i for i, photo in enumerate(photos) if photo.split == "train" and photo.label is not None]
    labels = [photos[i].label or "" for i in chosen]
    _check_sizes(labels, len(missing) + 1, where)
    parts = split_by_class(
        [f"group {photos[i].group}" if photos[i].group is not None else f"photo {keys[i]}" for i in chosen],
        labels,
        valid=options.valid_fraction,
        test=options.test_fraction if "test" in missing else 0.0,
        seed=options.split_seed,
    )
    found = list(photos)
    for i, part in zip(chosen, parts, strict=True):
        found[i] = replace(photos[i], split=part)
    sizes = ", ".join(f"{parts.count(split)} {split}" for split in ("train", *missing))
    return (
        found,
        ("train", *missing),
        [
            f"{where} has no {' and no '.join(missing)} photos: train was split ({sizes}; split_seed {options.split_seed})"
        ],
    )


def _check_sizes(labels: Sequence[str], fewest: int, where: str) -> None:
    small = [
        f"'{plain(label)}' ({labels.count(label)})" for label in sorted(set(labels)) if labels.count(label) < fewest
    ]
    if small:
        raise DataError(
            f"{where}: classes with too few photos to split: {', '.join(small[:6])}. At least {fewest} are needed."
        )
