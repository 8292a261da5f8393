"""What is reviewed: a folder, a table, an archive, a preset, a run, or a list of photos to label next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit.config.sections import DataSection
from finetunekit.data.decisions import open_decisions
from finetunekit.data.listing import list_photos
from finetunekit.evaluation.label_audit import choose_backbone, readable_index
from finetunekit.evaluation.photo_audit import audit_listed, open_audited
from finetunekit.evaluation.suggestions import read_suggestions
from finetunekit.runs.folder import CONFIG, PHOTOS, PREDICTIONS, FinishedRun, find_run, run_from
from finetunekit.serving.review.cards import (
    Card,
    ReviewedPhoto,
    audit_cards,
    mistake_cards,
    reviewed_photos,
    suggestion_cards,
)
from finetunekit.serving.review.photo_map import Features, PhotoMap
from finetunekit.serving.review.state import Review
from finetunekit.serving.review.thumbnails import Thumbnails
from finetunekit.system.progress import Progress
from finetunekit.system.user_dirs import expand_home
from finetunekit.types import DISPLAY, TEST, TRAIN, VALID, PhotoListing, PhotoRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetunekit.config.plan import Plan
    from finetunekit.plugins.host import PluginHost

DECISIONS = "decisions.csv"
NO_MAP = "Suggestions have no map: they were chosen to be unlike each other."
_STAYS = {
    TRAIN: "It was trained on with this label, and is still taken for another class: look at the label first.",
    VALID: "Look at the label; a mistake of the network is no reason to change the photos.",
    TEST: "Look at the label; leaving out test photos because they are hard makes the score worthless.",
}


@dataclass(frozen=True, slots=True)
class Opened:
    """Everything that the page is made of."""

    review: Review
    thumbnails: Thumbnails
    map: PhotoMap
    decisions: Path


@dataclass(frozen=True, slots=True)
class _Found:
    """What an argument means."""

    name: str
    listing: PhotoListing
    plan: Plan
    host: PluginHost
    decisions: Path
    run: FinishedRun | None = None
    notes: tuple[str, ...] = ()


@contextmanager
def open_review(
    target: str,
    *,
    decisions: Path | None = None,
    source: str | None = None,
    options: Sequence[str] = (),
    has_network: bool | None = None,
    out: str = "runs",
    trust: bool = False,
    progress: Progress,
) -> Iterator[Opened]:
    """Audit what is meant, and go on with its decisions; this process alone writes them meanwhile.

    Args:
        target: A folder, table, archive, preset, run folder, its name, or `last`; or a list that `data suggest` wrote.
        decisions: File of decisions; None: the one that the configuration names, else `decisions.csv` in the working directory; for
            suggestions the CSV of their own name, since they are about other photos.
        source: Data source that lists a path; None: by what it is.
        options: `NAME=VALUE` texts for it.
        has_network: Look for wrong labels with a pretrained network; None: where its weights are here.
        out: Folder of runs.
        trust: Load Python files of a run that was not started here.
        progress: Says what is under way.

    Raises:
        ConfigError: If nothing is meant.
        DataError: If photos or decisions cannot be read.
        RunFolderError: If another process writes the decisions.
    """
    if target.lower().endswith(".json"):
        path = expand_home(target)
        with _open_suggestions(path, decisions or path.with_suffix(".csv")) as opened:
            yield opened
        return
    found = _of_run(target, Path(out), trust, progress) or _of_photos(target, source, options, progress)
    path = decisions or found.decisions
    with open_decisions(path) as file:
        photos = reviewed_photos(found.listing)
        report = audit_listed(found.plan, found.host, found.listing, has_network=has_network, progress=progress)
        cards = [*audit_cards(report, photos), *_mistakes(found.run, photos)]
        classes = sorted({photo.label for photo in photos if photo.label})
        review = Review(found.name, photos, classes, cards, file, notes=found.notes)
        max_pixels = found.plan.config.data.max_photo_pixels
        yield Opened(review, Thumbnails(max_pixels), PhotoMap(_features(found, photos, has_network)), path)


@contextmanager
def _open_suggestions(path: Path, decisions: Path) -> Iterator[Opened]:
    found = read_suggestions(path)
    root = Path(found.folder)
    photos = [ReviewedPhoto(root / photo.path, photo.path, "", "unlabelled") for photo in found.photos]
    with open_decisions(decisions) as file:
        review = Review(f"what to label in {root.name}", photos, found.classes, [*suggestion_cards(found)], file)
        yield Opened(review, Thumbnails(DataSection().max_photo_pixels), PhotoMap(None, NO_MAP), decisions)


def _of_run(target: str, out: Path, trust: bool, progress: Progress) -> _Found | None:
    from finetunekit.runs.reopening import reopen_plan

    path = expand_home(target)
    is_run = any((folder / CONFIG).is_file() and (folder / PHOTOS).is_file() for folder in (path, out / target))
    if not is_run and target != "last":
        return None
    run = FinishedRun(find_run(target, out).resolve())
    plan, host = reopen_plan(run.path / CONFIG, progress=progress, trust=trust)
    records = tuple(
        PhotoRecord(run.photo_path(row["path"]), row["label"] or None, row["split"])
        for row in run.photos
        if row["split"] != DISPLAY
    )
    listing = PhotoListing(records, Path(run.state["photo_root"]), stand_in=run.stand_in)
    with run_from(run.path):
        decisions = Path(plan.config.data.decisions).resolve() if plan.config.data.decisions else Path(DECISIONS)
    notes = (run.stand_in,) if run.stand_in else ()
    return _Found(f"run {run.path.name}", listing, _undecided(plan), host, decisions, run, notes)


def _undecided(plan: Plan) -> Plan:
    """A plan that applies no decision: what was decided is shown beside photos and findings as they are."""
    data = plan.config.data.model_copy(update={"decisions": None})
    return replace(plan, config=plan.config.model_copy(update={"data": data}))


def _of_photos(target: str, source: str | None, options: Sequence[str], progress: Progress) -> _Found:
    plan, host, is_preset = open_audited(target, source=source, options=options, progress=progress)
    data = plan.config.data
    undecided = _undecided(plan)
    listing = list_photos(undecided, progress)  # as the source has them: what was decided is shown beside
    for note in listing.notes:
        progress.say(f"note: {note}")
    name = plan.config.name if is_preset else expand_home(target).resolve().name
    notes = (listing.stand_in,) if listing.stand_in else ()
    return _Found(name, listing, undecided, host, Path(data.decisions or DECISIONS), notes=notes)


def _mistakes(run: FinishedRun | None, photos: Sequence[ReviewedPhoto]) -> Iterator[Card]:
    if run is not None and (run.path / PREDICTIONS).is_file():
        yield from mistake_cards(run.predictions, photos, _STAYS)


def _features(found: _Found, photos: Sequence[ReviewedPhoto], has_network: bool | None) -> Features | None:
    """What gives features for the map: the run's own backbone, else the smallest one whose weights are here.

    No network sees test photos before a run has opened them.
    """
    plan = (
        found.plan
        if found.run is not None
        else None
        if has_network is False
        else choose_backbone(found.plan, found.host)
    )
    if plan is None and has_network:
        plan = found.plan
    if plan is None:
        return None
    is_open = found.run is not None and found.plan.config.evaluate.test
    splits = (TRAIN, VALID, TEST) if is_open else (TRAIN, VALID)

    def features(progress: Progress) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return _computed(plan, found.listing, photos, splits, progress)

    return features


def _computed(
    plan: Plan, listing: PhotoListing, photos: Sequence[ReviewedPhoto], splits: Sequence[str], progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    import numpy as np

    from finetunekit.data.audit.audited_photos import audited_photos
    from finetunekit.data.known_photos import open_known_photos
    from finetunekit.data.listing import measure_listing
    from finetunekit.evaluation.probe_features import open_probe

    with open_known_photos(progress.say) as known:
        measured = measure_listing(plan, listing, known, progress)
    index = readable_index(audited_photos(listing, measured), listing, splits)
    probe = open_probe(plan, index, progress)
    number = {photo.path: i for i, photo in enumerate(photos)}
    features = np.concatenate([probe.split(split)[0] for split in splits])
    numbers = [number[photo.path] for split in splits for photo in index.split(split)]
    return features, np.array(numbers, np.int64)
