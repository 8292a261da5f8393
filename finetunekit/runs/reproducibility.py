"""Whether two finished runs of one configuration came out the same, and what differs first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from finetunekit.runs.config_diff import environment_changes
from finetunekit.runs.folder import ENVIRONMENT, MODEL, FinishedRun
from finetunekit.system.array_files import read_arrays
from finetunekit.system.terminal import wrap

WALL_CLOCK = ("seconds", "images_per_s")
Level = Literal["bitwise", "same machine", "statistical"]


def reproducibility_level(*, is_deterministic: bool, is_keyed: bool) -> tuple[Level, str]:
    """How far a run can be repeated, and why.

    Args:
        is_deterministic: Whether TensorFlow was asked for deterministic operations.
        is_keyed: Whether every augmentation draws from its keys alone.

    Returns:
        `bitwise`: the same versions and threads on the same machine give the same bits. `same machine`: they do as a rule, since every
        draw is keyed, but no one vouches for the order of sums. `statistical`: another run is another draw.
    """
    if not is_keyed:
        return "statistical", "an augmentation declares that it is not deterministic"
    if not is_deterministic:
        return "same machine", "deterministic: false"
    return "bitwise", "deterministic: true, and every draw is keyed"


@dataclass(frozen=True, slots=True)
class BitComparison:
    """What a repetition came to.

    Attributes:
        is_same: Whether weights, history and predictions agree bit for bit.
        first: What differs first, in the order of the run; None where nothing does.
        largest: Largest difference of a probability between the two runs.
        environment: What differs between the machines, one line each.
    """

    is_same: bool
    first: str | None
    largest: float
    environment: tuple[str, ...]


def compare_bits(first: FinishedRun, second: FinishedRun) -> BitComparison:
    """Compare two finished runs of one configuration.

    Raises:
        RunFolderError: If a file is missing.
    """
    found = next(iter(_differences(first, second)), None)
    changes = environment_changes(first.environment, second.environment)
    lines = tuple(f"{change.key}: {change.first} → {change.second}" for change in changes)
    return BitComparison(found is None, found, _largest(first, second), lines)


def replay_lines(verdict: BitComparison, level: str | None) -> tuple[str, ...]:
    """Whether a repetition came out the same, at most 80 columns a line.

    Args:
        verdict: From `compare_bits`.
        level: Reproducibility level that the first run recorded; None for a run of an older version.
    """
    if verdict.is_same:
        return ("The same, bit for bit: weights, history and predictions.",)
    lines = [f"Not the same. What differs first: {verdict.first}."]
    lines.append(f"No probability differs by more than {verdict.largest:.2g}.")
    lines += [f"Since the first run, {line}." for line in verdict.environment]
    if level is not None:
        lines.append(f"The first run was recorded as reproducible: {level}.")
    return tuple(part for line in lines for part in wrap(line))


def processor_lines(runs: Iterable[FinishedRun]) -> tuple[str, ...]:
    """What several runs say where they were carried out on different processors, at most 80 columns a line."""
    found = ((run.optional(ENVIRONMENT) or {}).get("processor") for run in runs)
    kinds = sorted({name for name in found if name})
    if len(kinds) < 2:
        return ()
    words = (
        f"These runs were carried out on {len(kinds)} kinds of processors ({'; '.join(kinds)}). Each can be repeated bit for bit "
        "on its own kind only."
    )
    return tuple(wrap(words))


def _differences(first: FinishedRun, second: FinishedRun) -> Iterator[str]:
    for ours, theirs in zip(first.epochs, second.epochs, strict=False):
        for column in ours:
            if column not in WALL_CLOCK and ours[column] != theirs.get(column):
                yield f"epoch {ours['epoch']}, {column}: {ours[column]} and {theirs.get(column)}"
    if len(first.epochs) != len(second.epochs):
        yield f"epochs: {len(first.epochs)} and {len(second.epochs)}"
    for ours, theirs in zip(first.predictions, second.predictions, strict=False):
        if ours != theirs:
            yield f"the prediction of {ours['path']} ({ours['split']})"
    if len(first.predictions) != len(second.predictions):
        yield f"photos predicted: {len(first.predictions)} and {len(second.predictions)}"
    if all((run.path / MODEL).is_file() for run in (first, second)):
        arrays = [read_arrays(run.path / MODEL)[1] for run in (first, second)]
        for name, array in arrays[0].items():
            if name not in arrays[1] or not np.array_equal(array, arrays[1][name], equal_nan=True):
                yield f"weights {name}"


def _largest(first: FinishedRun, second: FinishedRun) -> float:
    known = {(row["split"], row["path"]): row for row in second.predictions}
    return max((_row_difference(row, known.get((row["split"], row["path"]))) for row in first.predictions), default=0.0)


def _row_difference(ours: Mapping[str, str], theirs: Mapping[str, str] | None) -> float:
    if theirs is None:
        return 1.0
    return max(abs(float(ours[name]) - float(theirs.get(name, "nan"))) for name in ours if name.startswith("p_"))
