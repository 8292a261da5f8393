"""Which photos go to which part: by class, by group, by hash, in folds. Pure functions of keys, labels and a seed.

Photos with equal keys stay together. A key is a group's name, or the hash of a photo's content where it is in no group.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeAlias

from finetunekit.errors import ConfigError
from finetunekit.types import TEST, TRAIN, VALID

#: Class → part → photos that it should get.
Targets: TypeAlias = Mapping[str, Mapping[str, int]]


def share_targets(labels: Sequence[str], *, valid: float, test: float) -> dict[str, dict[str, int]]:
    """Photos of each class for train, valid and test, from shares.

    Args:
        labels: Class of each photo.
        valid: Part of each class for validation, in [0, 1); 0: none.
        test: Part of each class for the test split, in [0, 1); `valid + test` below 1.

    Returns:
        Rounded counts that add up to each class. A part that is asked for gets at least one photo of a class that has enough;
        train before test before valid.
    """
    return {label: _shares(count, valid, test) for label, count in sorted(Counter(labels).items())}


def count_targets(labels: Sequence[str], *, valid: int, test: int) -> dict[str, dict[str, int]]:
    """Photos of each class for train, valid and test, from counts a class; train gets the rest, and at least one.

    Returns:
        Counts that add up to each class; a class that is too small gets less for valid first, then for test.
    """
    targets = {}
    for label, count in sorted(Counter(labels).items()):
        for_test = min(test, max(count - 1, 0))
        for_valid = min(valid, max(count - 1 - for_test, 0))
        targets[label] = {TRAIN: count - for_test - for_valid, VALID: for_valid, TEST: for_test}
    return targets


def fold_targets(labels: Sequence[str], folds: int) -> dict[str, dict[str, int]]:
    """Photos of each class for folds `1` to `folds`: sizes differ by one at most, in each class and in all."""
    targets, start = {}, 0
    for label, count in sorted(Counter(labels).items()):
        each, more = divmod(count, folds)
        extra = {(start + i) % folds for i in range(more)}
        targets[label] = {str(fold + 1): each + (fold in extra) for fold in range(folds)}
        start = (start + more) % folds
    return targets


def assign(keys: Sequence[str], labels: Sequence[str], targets: Targets, *, seed: int) -> tuple[str, ...]:
    """Place groups of photos so that each part comes as near to its targets as it can.

    The largest group goes first, equal ones in an order drawn from seed and key; each goes where it lessens the squared distance
    from the targets most, classes weighed by their size. Groups of one photo reach the targets exactly.

    Args:
        keys: Key of each photo.
        labels: Class of each photo.
        targets: From `share_targets`, `count_targets` or `fold_targets` of the same labels.
        seed: Another seed gives another draw.

    Returns:
        Part of each photo.

    Source: the greedy rule of scikit-learn's StratifiedGroupKFold (largest group first), with squared distance from targets.
    """
    groups: dict[str, Counter[str]] = {}
    for key, label in zip(keys, labels, strict=True):
        groups.setdefault(key, Counter())[label] += 1
    left = {label: dict(parts) for label, parts in targets.items()}
    totals = {label: max(1, sum(parts.values())) for label, parts in targets.items()}
    parts = tuple(next(iter(targets.values()), {}))
    placed: dict[str, str] = {}
    for key in sorted(groups, key=lambda key: (-groups[key].total(), _draw(seed, key))):
        counts = groups[key]

        def cost(part: str, counts: Counter[str] = counts) -> float:
            return sum(n * (n - 2 * left[label][part]) / totals[label] for label, n in counts.items())

        placed[key] = min(parts, key=cost)
        for label, n in counts.items():
            left[label][placed[key]] -= n
    return tuple(placed[key] for key in keys)


def split_by_class(
    keys: Sequence[str], labels: Sequence[str], *, valid: float, test: float, seed: int
) -> tuple[str, ...]:
    """Train, valid or test for each photo: shares of each class, photos with equal keys together.

    Args:
        keys: Key of each photo.
        labels: Class of each photo.
        valid: As in `share_targets`.
        test: As in `share_targets`.
        seed: As in `assign`.
    """
    return assign(keys, labels, share_targets(labels, valid=valid, test=test), seed=seed)


def assign_by_hash(keys: Sequence[str], shares: Mapping[str, float], *, seed: int) -> tuple[str, ...]:
    """Place each photo by the hash of its key alone: photos that come or go later move no other.

    Args:
        keys: Key of each photo.
        shares: Part → share of all photos; they add up to 1. Sizes come out near them, not exactly.
        seed: Another seed gives another draw.

    Returns:
        Part of each photo.
    """
    return tuple(_by_draw(_draw(seed, key), shares) for key in keys)


def group_keys(
    relations: Sequence[Sequence[str | None]], contents: Sequence[str]
) -> tuple[list[str], tuple[str | None, ...]]:
    """Photos related in any way, and copies of one file, as one group.

    Args:
        relations: For each kind of group, the group of each photo; None: in none.
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


def merge_groups(relations: Sequence[Sequence[Hashable | None]]) -> tuple[int, ...]:
    """Photos that share a value in any relation are one group, and so on along the chain.

    Args:
        relations: Each gives every photo a value; None relates a photo to no other.

    Returns:
        For each photo the position of the first photo of its group.
    """
    pairs = []
    for values in relations:
        first: dict[Hashable, int] = {}
        pairs += [(first.setdefault(value, i), i) for i, value in enumerate(values) if value is not None]
    return join_pairs(len(relations[0]) if relations else 0, pairs)


def join_pairs(photos: int, pairs: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Photos that pairs of positions connect are one group: for each photo the position of the first one of its group."""
    parent = list(range(photos))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for pair in pairs:
        one, other = map(root, pair)
        parent[max(one, other)] = min(one, other)
    return tuple(map(root, range(photos)))


def _apart(named: Mapping[int, str]) -> dict[int, str]:
    """Groups of different kinds may have one name: the later ones get a number."""
    seen: Counter[str] = Counter()
    apart = {}
    for position, name in named.items():
        seen[name] += 1
        apart[position] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return apart


def _shares(count: int, valid: float, test: float) -> dict[str, int]:
    for_test = min(max(1, round(count * test)), count - 1) if test else 0
    reserved = 1 if valid and count > 2 else 0
    for_test = min(for_test, count - 1 - reserved) if count > 2 else for_test
    for_valid = min(max(1, round(count * valid)), count - 1 - for_test) if valid else 0
    return {TRAIN: count - for_valid - for_test, VALID: for_valid, TEST: for_test}


def _draw(seed: int, key: str) -> float:
    """Uniform in [0, 1), from seed and key alone: 53 bits of SHA-256."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode(errors="surrogateescape")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _by_draw(draw: float, shares: Mapping[str, float]) -> str:
    end = 0.0
    for part, share in shares.items():
        end += share
        if draw < end:
            return part
    return [part for part, share in shares.items() if share > 0][-1]  # rounding: the shares add up to 1 nearly
