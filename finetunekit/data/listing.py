"""Asking a plan's data source for its photos, and saying what came."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit.config.plan import Chosen, Plan
from finetunekit.errors import PluginError
from finetunekit.plugins.components import call_builder, component_label, shown_value
from finetunekit.system.formatting import counted
from finetunekit.system.progress import Progress
from finetunekit.system.user_dirs import cache_dir, expand_home
from finetunekit.types import TEST, TRAIN, VALID, PhotoListing, PhotoRecord, SourceContext

if TYPE_CHECKING:
    from finetunekit.config.sections import TrainSection
    from finetunekit.data.apply_decisions import DecidedPhoto
    from finetunekit.data.exclusions import ExcludedPhoto
    from finetunekit.data.index import PhotoIndex
    from finetunekit.data.known_photos import Decoded, KnownPhotos, Measurements


def list_photos(plan: Plan, progress: Progress) -> PhotoListing:
    """Ask the plan's data source for its photos; the stand-in where the root does not exist and the preset allows it.

    Photos that the lists of `data.exclude` name are left out, and what `data.decisions` says is applied, unless the stand-in is used.

    Raises:
        DataError: If the photos cannot be listed, or a list of exclusions or decisions cannot be followed.
        PluginError: If the source returns something else than a `PhotoListing`.
    """
    return list_photos_changed(plan, progress).listing


@dataclass(frozen=True, slots=True)
class ChangedListing:
    """A listing, and what the configuration made of what the source listed.

    Attributes:
        listing: What is used.
        excluded: Photos that `data.exclude` leaves out.
        decided: What `data.decisions` changes.
    """

    listing: PhotoListing
    excluded: tuple[ExcludedPhoto, ...] = ()
    decided: tuple[DecidedPhoto, ...] = ()


def list_photos_changed(plan: Plan, progress: Progress) -> ChangedListing:
    """As `list_photos`, and what was changed."""
    listed, data = _ask(plan, progress), plan.config.data
    if listed.stand_in is not None:
        return ChangedListing(listed)
    listing = listed
    excluded: tuple[ExcludedPhoto, ...] = ()
    decided: tuple[DecidedPhoto, ...] = ()
    if data.exclude:
        from finetunekit.data.exclusions import leave_out

        listing, excluded = leave_out(listing, [Path(file) for file in data.exclude])
    if data.decisions is not None:
        from finetunekit.data.apply_decisions import apply_decisions

        listing, decided = apply_decisions(listing, Path(data.decisions), listed=listed)
    return ChangedListing(listing, excluded, decided)


def index_listing(plan: Plan, listing: PhotoListing, progress: Progress) -> PhotoIndex:
    """Read the photos that were listed; with `train.fold` or `train.leave_out`, in the splits that it asks for.

    Raises:
        DataError: If photos cannot be read, a fold would lack a class, or a group cannot be left out.
    """
    from finetunekit.data.known_photos import open_known_photos

    with open_known_photos(progress.say) as known:
        return index_measured_listing(plan, listing, measure_listing(plan, listing, known, progress))


def measure_listing(
    plan: Plan, listing: PhotoListing, known: KnownPhotos, progress: Progress, decoded: Decoded | None = None
) -> Measurements:
    """Measure the photos that were listed; `decoded` receives the pixels of those that had to be decoded for it."""
    from finetunekit.data.known_photos import measure_photos

    return measure_photos(
        [record.path for record in listing.photos],
        max_pixels=plan.config.data.max_photo_pixels,
        known=known,
        decoded=decoded,
        progress=progress.counter("reading photos"),
    )


def index_measured_listing(plan: Plan, listing: PhotoListing, measured: Measurements) -> PhotoIndex:
    """The index of photos that were measured; with `train.fold` or `train.leave_out`, in the splits that it asks for.

    Raises:
        DataError: If photos could not be read, a fold would lack a class, or a group cannot be left out.
    """
    from finetunekit.data.index import index_measured

    return in_asked_splits(index_measured(listing, measured), plan.config.train)


def in_asked_splits(index: PhotoIndex, train: TrainSection) -> PhotoIndex:
    """The photos in the splits that `train.fold` or `train.leave_out` asks for; without either as they are.

    Raises:
        DataError: If a fold would lack a class, or a group cannot be left out.
    """
    from finetunekit.data.folds import choose_fold, fold_of_photos
    from finetunekit.data.left_out import leave_out

    if train.leave_out is not None:
        return leave_out(index, train.leave_out)
    if train.folds is None or train.fold is None:
        return index
    return choose_fold(index, fold_of_photos(index, train.folds, seed=train.fold_seed), train.fold, train.folds)


def _ask(plan: Plan, progress: Progress) -> PhotoListing:
    root = expand_home(plan.config.data.root) if plan.config.data.root else None
    source = plan.data_source
    if plan.stand_in is not None and (root is None or not root.exists()):
        source = plan.stand_in
    return ask_source(source, SourceContext(root, cache_dir(), plan.config.seed, progress.say))


def ask_source(source: Chosen, context: SourceContext) -> PhotoListing:
    """What a data source lists, checked.

    Raises:
        DataError: If the photos cannot be listed.
        PluginError: If the source returns something else than a `PhotoListing`.
    """
    listing = call_builder(source, context)
    if not isinstance(listing, PhotoListing):
        raise PluginError(
            f"{component_label(source)} must return finetunekit.PhotoListing. Received: {shown_value(listing)}"
        )
    for what in _of_another_kind(listing):
        raise PluginError(f"{component_label(source)} must return a PhotoListing whose {what}")
    return listing


def _of_another_kind(listing: PhotoListing) -> Iterator[str]:
    """Fields of a listing that are not what their types say: a plugin's values are looked at before they are used."""
    for name, kind in (("photos", tuple), ("notes", tuple), ("dealt", tuple), ("root", Path), ("stand_in", str | None)):
        if not isinstance(value := getattr(listing, name), kind):
            yield f"{name} is a {getattr(kind, '__name__', 'text or None')}. Received: {shown_value(value)}"
            return
    kinds = (("path", Path), ("label", str | None), ("split", str), ("group", str | None))
    for photo in listing.photos:
        wrong = not isinstance(photo, PhotoRecord) or any(not isinstance(getattr(photo, n), kind) for n, kind in kinds)
        if wrong or "\0" in str(photo.path):
            yield f"photos are PhotoRecord of a path, a label, a split and a group. Received: {shown_value(photo)}"
    yield from (
        f"notes are texts. Received: {shown_value(note)}" for note in listing.notes if not isinstance(note, str)
    )


def describe_photos(index: PhotoIndex) -> str:
    """One line: photos of each split, and the classes."""
    counts = {split: len(index.split(split)) for split in (TRAIN, VALID, TEST)}
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    return f"photos: {listed}; {counted(len(index.classes), 'class')}: {', '.join(index.classes[:8])}" + (
        " …" if len(index.classes) > 8 else ""
    )
