"""Finished runs against the first of them, on the test photos they share: values only, printed elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import ConfigError, did_you_mean
from finetunekit.runs.comparison import ChangedPhoto, ComparedRun, Comparison, RunPair
from finetunekit.runs.config_diff import configuration_changes, machine_changes
from finetunekit.runs.folder import ENVIRONMENT
from finetunekit.runs.test_predictions import TestPredictions, read_test_predictions
from finetunekit.statistics import bonferroni, compare_predictions, simultaneous_level, wilson_interval

ALPHA = 0.05
"""Chance of telling apart runs that are equally accurate, over all pairs of one comparison."""


def compare_runs(
    paths: Sequence[Path],
    *,
    margin_points: float | None = None,
    log_loss_margin: float | None = None,
    is_strict: bool = False,
) -> Comparison:
    """Compare finished runs with the first of them, test photos paired by content.

    Runs whose test photos differ are compared on those they share. With several pairs p-values are adjusted and
    intervals widened by one procedure, so that among runs that are all equally accurate one is told apart 1 time in 20 at most, and an
    interval excludes 0 exactly where its pair is told apart; equivalence is for each pair alone.

    Args:
        paths: Run folders, two or more, each once.
        margin_points: Largest difference in accuracy that counts as none, in percentage points in (0, 100), stated
            before looking.
        log_loss_margin: The same for the log loss, in nats.
        is_strict: Refuse runs whose test photos differ at all.

    Raises:
        ConfigError: If the runs cannot be compared: fewer than two, one given twice, other classes, no photo in common,
            one photo with two classes, a margin out of range, or (strict) other photos.
        RunFolderError: If a run is not finished, or its files are missing or damaged.

    Source: each test's own docstring in `finetunekit.statistics`; adjustment by Dunn 1961, JASA 56(293), 52-64.
    """
    _check_request(paths, margin_points, log_loss_margin)
    sides = [read_test_predictions(path) for path in paths]
    for side in sides[1:]:
        _check_same_classes(sides[0], side)
    contents = [_common_photos(sides[0], side, is_strict) for side in sides[1:]]
    pairs = [
        _pair(sides[0], side, number, common, margin_points, log_loss_margin, simultaneous_level(len(contents)))
        for number, (side, common) in enumerate(zip(sides[1:], contents, strict=True), 2)
    ]
    adjusted = bonferroni([pair.scores.mcnemar.p for pair in pairs])
    pairs = [replace(pair, p_adjusted=p, is_told_apart=p < ALPHA) for pair, p in zip(pairs, adjusted, strict=True)]
    runs = tuple(_describe(side, number) for number, side in enumerate(sides, 1))
    return Comparison(runs, tuple(pairs), margin_points, log_loss_margin)


def _check_request(paths: Sequence[Path], margin_points: float | None, log_loss_margin: float | None) -> None:
    if len(paths) < 2:
        raise ConfigError(f"compare needs two runs or more. Received: {len(paths)}")
    resolved = [path.resolve() for path in paths]
    twice = [path for i, path in enumerate(paths) if resolved[i] in resolved[:i]]
    if twice:
        raise ConfigError(f"{twice[0]}: was given twice. Name each run once.")
    if margin_points is not None and not 0.0 < margin_points < 100.0:
        raise ConfigError(f"--margin is in percentage points, between 0 and 100. Received: {margin_points:g}")
    if log_loss_margin is not None and not 0.0 < log_loss_margin < np.inf:
        raise ConfigError(f"--log-loss-margin is in nats, above 0. Received: {log_loss_margin:g}")


def _check_same_classes(first: TestPredictions, second: TestPredictions) -> None:
    odd = sorted(set(first.classes) ^ set(second.classes))
    if not odd:
        return
    holder, other = (first, second) if odd[0] in first.classes else (second, first)
    raise ConfigError(
        f"{holder.run.path} has a class '{odd[0]}' that {other.run.path} has not."
        f"{did_you_mean(odd[0], other.classes)} Only runs with the same classes can be compared."
    )


def _common_photos(first: TestPredictions, second: TestPredictions, is_strict: bool) -> tuple[str, ...]:
    """Contents of the photos in both test splits, in the reference's order."""
    common = tuple(content for content in first.by_content if content in second.by_content)
    names = f"{first.run.path} and {second.run.path}"
    if not common:
        raise ConfigError(f"{names} have no test photo in common. Compare runs that were tested on the same photos.")
    left = len(first.by_content) - len(common), len(second.by_content) - len(common)
    if is_strict and any(left):
        raise ConfigError(
            f"{names} were tested on different photos ({len(common)} common, {left[0]} and {left[1]} in one only)."
            " Leave out --strict to compare the common ones."
        )
    for content in common:
        one, other = first.by_content[content], second.by_content[content]
        if one.true != other.true:
            raise ConfigError(
                f"{one.path} is a '{one.true}' in {first.run.path} and a '{other.true}' in {second.run.path}."
                " One of the two was scored against a wrong label; correct it and run again."
            )
    return common


def _pair(
    first: TestPredictions,
    second: TestPredictions,
    number: int,
    common: Sequence[str],
    margin_points: float | None,
    log_loss_margin: float | None,
    level: float,
) -> RunPair:
    """Compare two runs; their intervals are at this level."""
    before, labels = first.arrays(common, first.classes)
    after, _ = second.arrays(common, first.classes)
    margin = None if margin_points is None else margin_points / 100.0
    scores = compare_predictions(
        before, after, labels, accuracy_margin=margin, log_loss_margin=log_loss_margin, level=level
    )

    def changed(rows: Sequence[int]) -> tuple[ChangedPhoto, ...]:
        return tuple(_changed_photo(first, common[row], before[row], after[row]) for row in rows)

    return RunPair(
        first=1,
        second=number,
        common=len(common),
        only_first=len(first.by_content) - len(common),
        only_second=len(second.by_content) - len(common),
        scores=scores,
        p_adjusted=scores.mcnemar.p,
        is_told_apart=scores.is_told_apart,
        is_identical=bool(np.array_equal(before, after)),
        gained=changed(scores.gained),
        lost=changed(scores.lost),
        configuration=configuration_changes(first.run, second.run),
        machine=machine_changes(first.run, second.run),
        is_machine_known=all((side.run.path / ENVIRONMENT).is_file() for side in (first, second)),
    )


def _changed_photo(
    first: TestPredictions, content: str, before: NDArray[np.float64], after: NDArray[np.float64]
) -> ChangedPhoto:
    prediction = first.by_content[content]
    was, now = int(before.argmax()), int(after.argmax())
    return ChangedPhoto(
        path=prediction.path,
        sha256=content,
        true=prediction.true,
        first=first.classes[was],
        first_probability=float(before[was]),
        second=first.classes[now],
        second_probability=float(after[now]),
    )


def _describe(side: TestPredictions, number: int) -> ComparedRun:
    correct, photos = side.count_correct(), len(side.by_content)
    return ComparedRun(
        number=number,
        path=side.run.path,
        name=str(side.run.state.get("name", side.run.path.name)),
        seed=side.run.state.get("seed"),
        stand_in=side.run.stand_in,
        photos=photos,
        copies=side.copies,
        correct=correct,
        interval=wilson_interval(correct, photos),
    )
