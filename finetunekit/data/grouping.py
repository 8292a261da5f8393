"""Which photos belong together: groups by column, by a pattern in the path, by a table of clusters, by equal content."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetunekit.data.index import shown_path
from finetunekit.data.splitting import merge_groups
from finetunekit.data.tables import open_table
from finetunekit.errors import ConfigError, DataError
from finetunekit.types import PhotoRecord


def relations_of(
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
        relations.append(_matches(group_by, [shown_path(photo.path, root) for photo in photos]))
    if clusters is not None:
        relations.append(_clusters(clusters, photos, root))
    for relation in relations:
        single = relation.count(None)
        notes += [f"{single} of {len(photos)} photos are in no group and are placed one by one"] if single else []
    return relations, notes


def _matches(pattern: str, names: Sequence[str]) -> list[str | None]:
    try:
        compiled = re.compile(pattern)
    except re.error as exc:
        raise ConfigError(f"--group-by {pattern}: is no regular expression ({exc}).") from exc
    found = [compiled.search(name) for name in names]
    if not any(found):
        raise DataError(f"--group-by {pattern}: matches none of {len(names)} photos. The first is {names[0]}.")
    return [None if match is None else match.group(1 if compiled.groups else 0) for match in found]


def _clusters(path: Path, photos: Sequence[PhotoRecord], root: Path) -> list[str | None]:
    table = open_table(path)
    columns = [table.find(role, is_needed=True) or "" for role in ("file", "group")]
    cluster_of: dict[str, str] = {}
    for _, (name, cluster) in table.read(columns):
        if isinstance(name, str) and cluster is not None:
            for base in (root, path.parent):
                cluster_of.setdefault(os.path.abspath(base / name), str(cluster))
    found = [cluster_of.get(os.path.abspath(photo.path)) for photo in photos]
    if not any(found):
        raise DataError(f"--clusters {path}: names none of the photos. Names are relative to {root} or to the table.")
    return found


def group_keys(
    relations: Sequence[Sequence[str | None]], contents: Sequence[str]
) -> tuple[list[str], tuple[str | None, ...]]:
    """Photos related in any way, and copies of one file, as one group.

    Args:
        relations: From `relations_of`.
        contents: Hash of each photo's content.

    Returns:
        What each photo's place is drawn from, equal within a group; and the group it is written with, None where it is in none.
    """
    first = merge_groups([*relations, list(contents)])
    smallest: dict[int, str] = {}
    for position, sha in zip(first, contents, strict=True):
        smallest[position] = min(sha, smallest.get(position, sha))
    named: dict[int, str] = {}
    for values in relations:
        for position, value in zip(first, values, strict=True):
            if value is not None:
                named.setdefault(position, value)
    names = _apart(named)
    return [smallest[position] for position in first], tuple(names.get(position) for position in first)


def hash_keys(
    relations: Sequence[Sequence[str | None]], contents: Sequence[str]
) -> tuple[list[str], tuple[str | None, ...]]:
    """Keys that no other photo can change: the group's own name, else the content; otherwise as `group_keys`.

    Raises:
        ConfigError: If there is more than one kind of group: photos could then move when others join their groups.
    """
    if len(relations) > 1:
        raise ConfigError("--by hash: one kind of group only: the table's column, or --group-by.")
    groups = tuple(relations[0]) if relations else (None,) * len(contents)
    keys = [f"photo {sha}" if group is None else f"group {group}" for group, sha in zip(groups, contents, strict=True)]
    return keys, groups


def _apart(named: Mapping[int, str]) -> dict[int, str]:
    """Groups of different kinds may have one name: the later ones get a number."""
    seen: Counter[str] = Counter()
    apart = {}
    for position, name in named.items():
        seen[name] += 1
        apart[position] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return apart
