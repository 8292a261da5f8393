"""Probes on features that are written already: shards in folders or at addresses in place of candidates of a preset."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import ConfigError, DataError
from finetunekit.experiments.probe_ranking import SPLITS_USED, RankedProbe, Ranking, Tried, ranking_of, score_of
from finetunekit.models.feature_shards import FeatureShards, open_feature_shards, same_photos
from finetunekit.models.linear_probe.cross_validation import Recipe, cross_validate
from finetunekit.system.formatting import counted
from finetunekit.system.progress import Progress


def rank_features(places: Sequence[str], progress: Progress, *, folds: int = 5, seed: int = 0) -> Ranking:
    """Rank features of the same photos by a probe on each; labelled training and validation photos are used, no test photo.

    Args:
        places: Folders or addresses that `finetunekit features` wrote to.
        progress: Says what is under way.
        folds: Outer and inner folds.
        seed: Of the folds.

    Raises:
        ConfigError: If a folder holds no features, or they are of other photos than the first one's.
        DataError: If a folder is not finished or damaged, or its photos have no labels.
    """
    opened = []
    for place in places:
        started = time.perf_counter()
        opened.append((open_feature_shards(place, progress), started, time.perf_counter()))
    if not same_photos([shards for shards, *_ in opened]):
        raise ConfigError(
            "--features: the folders hold other photos, or the same in another order. Make them from one list."
        )
    rows, labels, classes = _labelled(opened[0][0], progress)
    tried = [
        _try(shards, rows, labels, len(classes), progress, folds, seed, read_s=ready - started)
        for shards, started, ready in opened
    ]
    return ranking_of(tried, labels, classes, left_out={}, stand_in=None)


def _labelled(
    shards: FeatureShards, progress: Progress
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Rows that a probe may look at, the class of each, and the classes."""
    named = [row for row, label in enumerate(shards.label) if label is not None]
    usable = [row for row in named if shards.split[row] in (*SPLITS_USED, None)]
    if not usable:
        raise DataError(
            f"{shards.place}: no labelled training or validation photos. Labels come from class folders or a column of a table."
        )
    left = len(shards.label) - len(usable)
    if left:
        progress.say(f"{counted(left, 'row')} without a label or of the test split are not looked at")
    classes, labels = np.unique([str(shards.label[row]) for row in usable], return_inverse=True)
    return np.array(usable, np.int64), labels.astype(np.int64), tuple(map(str, classes))


def _try(
    shards: FeatureShards,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: int,
    progress: Progress,
    folds: int,
    seed: int,
    *,
    read_s: float,
) -> Tried:
    started = time.perf_counter()
    count = progress.counter(f"{shards.name}: cross-validation, outer folds")
    recipe, groups = Recipe(folds=folds, seed=seed), shards.groups(rows)
    try:
        nested = cross_validate(shards.take(rows), labels, classes, recipe, groups=groups, count=count)
    except ValueError as exc:
        raise DataError(f"{shards.place}: {exc}.") from exc
    pixels, network = shards.manifest["pixels"], shards.manifest["network"]
    row = RankedProbe(
        backbone=shards.manifest["backbone"],
        size_px=pixels["size_px"],
        contract=pixels["contract"],
        fit=pixels["fit"],
        crop_pct=pixels["crop_pct"],
        score=score_of(nested.probabilities, labels),
        penalty=float(np.median(nested.penalties)),
        channels=network["channels"],
        feature_s=round(read_s, 1),
        fit_s=round(time.perf_counter() - started, 1),
        size_mb=round(network["weights_bytes"] / 1e6, 1),
    )
    return Tried(row, nested)
