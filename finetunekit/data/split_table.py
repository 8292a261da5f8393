"""Photos of a listing split anew, and the table that says so: nothing is copied or moved."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetunekit.data.index import photo_name
from finetunekit.data.known_photos import KnownPhotos, measure_photos
from finetunekit.data.parallel import Progress, bounded
from finetunekit.data.splitting import (
    assign,
    assign_by_hash,
    count_targets,
    fold_targets,
    group_keys,
    hash_keys,
    share_targets,
)
from finetunekit.data.tables import open_table
from finetunekit.errors import ConfigError, DataError
from finetunekit.system.files import to_csv, write_whole
from finetunekit.system.formatting import counted, escaped
from finetunekit.types import DISPLAY, TEST, TRAIN, VALID, PhotoListing, PhotoRecord


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """How photos are to be split.

    Attributes:
        by: `class`: in exact parts of each class; `hash`: each photo by itself, so that photos added later move none.
        valid: Part of each class for validation, in [0, 1); or a whole number of photos of each class.
        test: Likewise for the test split.
        folds: Number of folds, in place of train, valid and test; None: no folds.
        seed: Another seed gives another draw.
        group_by: Regular expression looked for in a photo's path below the root; what it matches (or its first group) is the photo's
            group.
        clusters: Table of files and their clusters; a cluster stays together.
    """

    by: Literal["class", "hash"] = "class"
    valid: float | int = 0.2
    test: float | int = 0.2
    folds: int | None = None
    seed: int = 0
    group_by: str | None = None
    clusters: Path | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """Photos and their parts.

    Attributes:
        photos: Labelled photos, each file once, in the order of the listing.
        parts: Part of each: `train`, `valid`, `test`, or the number of a fold from 1.
        groups: Group of each; None where it is in none.
        names: The parts, in order.
        notes: What was passed over, one line each.
        warnings: What is wrong with the outcome, one line each.
    """

    photos: tuple[PhotoRecord, ...]
    parts: tuple[str, ...]
    groups: tuple[str | None, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def counts(self) -> dict[str, dict[str, int]]:
        """Class → part → photos."""
        counted = Counter((photo.label or "", part) for photo, part in zip(self.photos, self.parts, strict=True))
        labels = sorted({label for label, _ in counted})
        return {label: {part: counted[label, part] for part in self.names} for label in labels}


def make_split(
    listing: PhotoListing,
    request: SplitRequest,
    *,
    max_pixels: int,
    known: KnownPhotos | None = None,
    progress: Progress | None = None,
) -> Split:
    """Split the labelled photos of a listing, whatever splits it has; copies of one file stay together.

    Args:
        listing: From a data source.
        request: How.
        max_pixels: Photos that claim more are refused.
        known: The user's cache of what is known of photos.
        progress: Called with (files done, files to read).

    Raises:
        ConfigError: If the request is impossible.
        DataError: If photos cannot be read, a cluster table cannot be used, or a rule for groups matches no photo.
    """
    _check_request(request)
    photos = tuple({p.path: p for p in listing.photos if p.label is not None and p.split != DISPLAY}.values())
    if not photos:
        raise DataError(f"{escaped(str(listing.root))}: no labelled photos to split.")
    found = measure_photos([p.path for p in photos], max_pixels=max_pixels, known=known, progress=progress)
    if found.problems:
        raise DataError(bounded([*found.problems.values()]))
    contents = [found.photos[photo.path].sha256 for photo in photos]
    relations, notes = _relations(photos, listing.root, group_by=request.group_by, clusters=request.clusters)
    keys, groups = hash_keys(relations, contents) if request.by == "hash" else group_keys(relations, contents)
    labels = [photo.label or "" for photo in photos]
    names, parts = _place(keys, labels, request)
    warnings = (*_unlucky(labels, parts, names), *_contradictions(labels, contents))
    return Split(photos, parts, groups, names, (*_left_out(listing), *notes), warnings)


def write_split(split: Split, out: Path, root: Path, *, is_replacing: bool = False) -> Path | None:
    """Write the table that the data source `table` reads: file_name, label, split or fold, and group where there are groups.

    Args:
        split: What to write.
        out: The table, a CSV file. File names are relative to its folder where all photos lie below it.
        root: Else they are relative to this folder, the listing's root.
        is_replacing: Whether a table that says something else may be overwritten.

    Returns:
        The folder that file names are relative to where it is not the table's own; else None.

    Raises:
        ConfigError: If a different table is there already, or `out` is not a CSV file.
        RunFolderError: If it cannot be written.
    """
    if out.suffix.lower() != ".csv":
        raise ConfigError(f"--out {out}: the table is written as CSV. Name a file that ends in .csv.")
    paths = [os.path.abspath(photo.path) for photo in split.photos]
    here = os.path.abspath(out.parent)
    is_below = all(path.startswith(os.path.join(here, "")) for path in paths)
    base = here if is_below else os.path.abspath(root)
    column = "split" if split.names[0] == TRAIN else "fold"
    is_grouped = any(group is not None for group in split.groups)
    columns = ("file_name", "label", column, *(("group",) if is_grouped else ()))
    rows = [
        dict(zip(columns, (_relative(path, base), photo.label, part, group or ""), strict=False))
        for path, photo, part, group in zip(paths, split.photos, split.parts, split.groups, strict=True)
    ]
    content = to_csv(rows, columns).encode(errors="surrogateescape")
    if out.exists() and not is_replacing and (not out.is_file() or out.read_bytes() != content):
        raise ConfigError(f"{out}: already exists with different content. Name another file, or add --replace.")
    write_whole(out, content)
    return None if is_below else Path(base)


def _relative(path: str, base: str) -> str:
    return Path(os.path.relpath(path, base)).as_posix()


def _check_request(request: SplitRequest) -> None:
    counts = [isinstance(number, int) and number > 0 for number in (request.valid, request.test)]
    is_counted, is_mixed = any(counts), any(counts) and any(0 < n < 1 for n in (request.valid, request.test))
    if is_mixed or (not is_counted and request.valid + request.test >= 1):
        raise ConfigError(
            f"--valid {request.valid:g} --test {request.test:g}: give two parts that add up to less than 1, or two whole numbers"
            " of photos of each class."
        )
    if request.by == "hash" and is_counted and request.folds is None:
        raise ConfigError("--by hash: gives parts, not numbers of photos. Give --valid and --test below 1.")
    if request.by == "hash" and request.clusters:
        raise ConfigError(
            "--by hash: clusters change with the photos, so that photos would move. Split by class instead."
        )


def _relations(
    photos: Sequence[PhotoRecord], root: Path, *, group_by: str | None, clusters: Path | None
) -> tuple[list[list[str | None]], list[str]]:
    """Group of each photo by the source, by expression, by cluster; only those that are there.

    Args:
        photos: Photos.
        root: Folder that paths are shown relative to.
        group_by: Regular expression looked for in each shown path; what its first group, or all of it, matches is the group.
        clusters: Table of files and their clusters.

    Returns:
        One group or None for each photo, for each kind of group; and a note on photos in none.

    Raises:
        ConfigError: If the expression is none.
        DataError: If the table cannot be used, or a rule matches no photo.
    """
    relations = [[photo.group for photo in photos]] if any(photo.group is not None for photo in photos) else []
    notes = []
    if group_by is not None:
        relations.append(_matches(group_by, [photo_name(photo.path, root) for photo in photos]))
    if clusters is not None:
        relations.append(_clusters(clusters, photos, root))
    for relation in relations:
        single = relation.count(None)
        notes += [f"{single:,} of {counted(len(photos), 'photo')} in no group, placed one by one"] if single else []
    return relations, notes


def _matches(pattern: str, names: Sequence[str]) -> list[str | None]:
    try:
        compiled = re.compile(pattern)
    except re.error as exc:
        raise ConfigError(f"--group-by {pattern}: is not a regular expression ({exc}).") from exc
    found = [compiled.search(name) for name in names]
    if not any(found):
        raise DataError(f"--group-by {pattern}: matches none of {len(names)} photos. The first is {escaped(names[0])}.")
    return [None if match is None else match.group(1 if compiled.groups else 0) for match in found]


def _clusters(path: Path, photos: Sequence[PhotoRecord], root: Path) -> list[str | None]:
    table = open_table(path)
    columns = [table.find(role, is_needed=True) or "" for role in ("file", "group")]
    cluster_of: dict[str, str] = {}
    for _, (name, cluster) in table.read(columns):
        if isinstance(name, str) and cluster is not None:
            for base, written in itertools.product((root, path.parent), (name, name.strip())):
                cluster_of.setdefault(os.path.abspath(base / written), str(cluster).strip())
    found = [cluster_of.get(os.path.abspath(photo.path)) for photo in photos]
    if not any(found):
        raise DataError(f"--clusters {path}: names none of the photos. Names are relative to {root} or to the table.")
    return found


def _place(
    keys: Sequence[str], labels: Sequence[str], request: SplitRequest
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The parts, and the part of each photo."""
    if request.folds is not None:
        names = tuple(str(fold + 1) for fold in range(request.folds))
        if request.by == "hash":
            return names, assign_by_hash(keys, dict.fromkeys(names, 1 / request.folds), seed=request.seed)
        return names, assign(keys, labels, fold_targets(labels, request.folds), seed=request.seed)
    names = (TRAIN, VALID, TEST)
    valid, test = request.valid, request.test
    if request.by == "hash":
        shares = {TEST: test, VALID: valid, TRAIN: 1 - valid - test}
        return names, assign_by_hash(keys, shares, seed=request.seed)
    if valid >= 1 or test >= 1:
        return names, assign(keys, labels, count_targets(labels, valid=int(valid), test=int(test)), seed=request.seed)
    return names, assign(keys, labels, share_targets(labels, valid=valid, test=test), seed=request.seed)


def _unlucky(labels: Sequence[str], parts: Sequence[str], names: Sequence[str]) -> list[str]:
    there = set(zip(labels, parts, strict=True))
    return [
        f"class '{escaped(label)}' ({labels.count(label)} photos) has none in {'fold ' if part.isdigit() else ''}{part}"
        for label in sorted(set(labels))
        for part in names
        if (label, part) not in there
    ]


def _contradictions(labels: Sequence[str], contents: Sequence[str]) -> list[str]:
    labels_of: dict[str, set[str]] = {}
    for label, sha in zip(labels, contents, strict=True):
        labels_of.setdefault(sha, set()).add(label)
    clashes = sum(len(found) > 1 for found in labels_of.values())
    return (
        [f"photos that are there more than once, with different labels: {clashes} (finetunekit data audit)"]
        if clashes
        else []
    )


def _left_out(listing: PhotoListing) -> list[str]:
    shown = sum(photo.split == DISPLAY or photo.label is None for photo in listing.photos)
    return [f"left out, display photos or photos without a label: {shown}"] if shown else []
