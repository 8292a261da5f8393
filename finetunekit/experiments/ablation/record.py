"""What an ablation found, as plain values: each cell's scores with intervals, and its difference to the preset on the same photos."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import RunFolderError
from finetunekit.evaluation.scores import split_arrays
from finetunekit.experiments.ablation.layout import Layout
from finetunekit.experiments.seeds_summary import over_seeds
from finetunekit.runs.folder import FinishedRun
from finetunekit.statistics import (
    mean_interval,
    paired_interval,
    photo_log_losses,
    wilson_interval,
)
from finetunekit.types import TEST, TRAIN, VALID


@dataclass(frozen=True, slots=True)
class Scored:
    """One run on the distinct photos of one split.

    Attributes:
        content: SHA-256 and label of each photo.
        is_right: `(photos,)` bool.
        losses: `(photos,)` log loss of each, in nats.
    """

    content: tuple[tuple[str, str], ...]
    is_right: NDArray[np.bool_]
    losses: NDArray[np.float64]

    @property
    def log_loss(self) -> float:
        """Mean, in nats."""
        return float(self.losses.mean())


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished run of an ablation.

    Attributes:
        folder: Relative to the ablation's.
        seconds: Its whole time.
        stand_in: The sentence to show where its photos are a stand-in.
        trained_on: SHA-256 and label of each training photo.
        scores: Split → its scores.
        openings: Of the test split, as the run noted them; None where it stayed shut or they could not be recorded.
    """

    folder: str
    seconds: float
    stand_in: str | None
    trained_on: frozenset[tuple[str, str]]
    scores: Mapping[str, Scored]
    openings: Mapping[str, Any] | None

    @classmethod
    def read(cls, path: Path, parent: Path, *, is_test: bool) -> Finished:
        """Read a finished run.

        Raises:
            RunFolderError: If its files are missing or damaged.
        """
        run = FinishedRun(path)
        try:
            scores = {split: _scored(run, split) for split in ((VALID, TEST) if is_test else (VALID,))}
            trained_on = frozenset((row["sha256"], row["label"]) for row in run.photos if row["split"] == TRAIN)
            seconds = float(run.metrics["seconds"]["whole"])
        except (KeyError, TypeError, ValueError) as exc:
            raise RunFolderError(f"{path}: is damaged ({exc}). Delete it, and the same command runs it again.") from exc
        folder = str(path.resolve().relative_to(parent.resolve()))
        return cls(folder, seconds, run.stand_in, trained_on, scores, run.metrics.get("openings"))


def _scored(run: FinishedRun, split: str) -> Scored:
    """A photo that lies in the split several times counts once: a copy is no further evidence."""
    rows = list({row["sha256"]: row for row in run.split_predictions(split)}.values())
    rows.sort(key=lambda row: row["sha256"])
    probabilities, labels = split_arrays(rows, run.classes, split)
    return Scored(
        tuple((row["sha256"], row["true"]) for row in rows),
        probabilities.argmax(axis=1) == labels,
        photo_log_losses(probabilities, labels),
    )


def make_record(
    layout: Layout, seeds: Sequence[int], finished: Mapping[tuple[int, int], Finished | str]
) -> dict[str, Any]:
    """Content of `ablation.json`.

    Args:
        layout: What was asked.
        seeds: Of each cell.
        finished: (Cell, seed) → its run, or why it failed; all scored on the same photos.

    Returns:
        Plain values: what was asked; `cells`, each with its runs and, split by split, `correct` (mean over seeds), `photos`,
        `accuracy`, `interval` (over photos, Wilson's at the mean count), `over_seeds` (t-interval; None with one seed), `log_loss`
        and `against_preset` (see `_against`; None for the preset itself, and where either failed); `curves`, one a varied setting.

    Source: `wilson_interval`, `summarise_seeds`; that neither interval contains the other: Dietterich 1998, Neural Computation 10(7),
        1895-1923.
    """
    splits = (VALID, TEST) if layout.is_test else (VALID,)
    done = [one for one in finished.values() if isinstance(one, Finished)]
    cells = []
    for i, cell in enumerate(layout.cells):
        of_cell = {seed: finished[i, seed] for seed in seeds}
        reference = {seed: finished[0, seed] for seed in seeds}
        cells.append(
            {
                "values": {
                    axis.varied.key: axis.varied.choices[at].shown
                    for axis, at in zip(layout.axes, cell.at, strict=True)
                },
                "is_preset": i == 0,
                "settings": [s for axis, at in zip(layout.axes, cell.at, strict=True) for s in axis.varied.choices[at].settings],
                **_cell(of_cell, reference if i else None, splits),
            }
        )  # fmt: skip
    return {
        "preset": layout.preset,
        "name": layout.name,
        "settings": list(layout.settings),
        "mode": "grid" if layout.is_grid else "one at a time",
        "seeds": list(seeds),
        "splits": list(splits),
        "stand_in": done[0].stand_in if done else None,
        "openings": _last_openings(done),
        "cells": cells,
        "curves": [_curve(layout, axis) for axis in range(len(layout.axes))],
    }


def check_same_photos(first: Finished, second: Finished, *, is_training_varied: bool = False) -> None:
    """Refuse to set runs side by side that saw other photos or labels.

    Args:
        first: A run.
        second: Another.
        is_training_varied: Whether they may differ in their training photos.

    Raises:
        RunFolderError: If they did.
    """
    odd = [split for split, scored in first.scores.items() if scored.content != second.scores[split].content]
    if first.trained_on != second.trained_on and not is_training_varied:
        odd.append(TRAIN)
    if odd:
        raise RunFolderError(
            f"{second.folder} and {first.folder} have different {' and '.join(odd)} photos or labels, which have changed in between. Run "
            "the ablation again with another --out."
        )


def _last_openings(done: Sequence[Finished]) -> Mapping[str, Any] | None:
    counted = [one.openings for one in done if one.openings is not None]
    return max(counted, key=lambda one: int(one["openings"]), default=None)


def _curve(layout: Layout, axis: int) -> dict[str, Any]:
    varied = layout.axes[axis].varied
    return {
        "key": varied.key,
        "path": varied.path,
        "written": varied.written,
        "own": layout.axes[axis].own,
        "points": [
            {"value": choice.shown, "number": choice.number, "cell": cell}
            for choice, cell in zip(varied.choices, layout.curve(axis), strict=True)
        ],
    }


def _cell(
    of_cell: Mapping[int, Finished | str], reference: Mapping[int, Finished | str] | None, splits: Sequence[str]
) -> dict[str, Any]:
    done = {seed: one for seed, one in of_cell.items() if isinstance(one, Finished)}
    pairs = [
        (other, one)
        for seed, one in done.items()
        if reference is not None and isinstance(other := reference[seed], Finished)
    ]
    return {
        "runs": [
            {"seed": seed, "folder": one.folder, "seconds": one.seconds}
            | {split: {"correct": int(one.scores[split].is_right.sum()), "log_loss": one.scores[split].log_loss} for split in splits}
            for seed, one in done.items()
        ],
        "failed": {str(seed): one for seed, one in of_cell.items() if isinstance(one, str)},
        "seconds": statistics.fmean(one.seconds for one in done.values()) if done else None,
        "scores": {
            split: _score([one.scores[split] for one in done.values()])
            | {"against_preset": _against([(a.scores[split], b.scores[split]) for a, b in pairs]) if pairs else None}
            for split in splits
        }
        if done
        else None,
    }  # fmt: skip


def _score(scored: Sequence[Scored]) -> dict[str, Any]:
    photos = len(scored[0].is_right)
    correct = [int(one.is_right.sum()) for one in scored]
    mean = statistics.fmean(correct)
    return {
        "correct": mean,
        "photos": photos,
        "accuracy": mean / photos,
        "interval": asdict(wilson_interval(mean, photos)),
        "over_seeds": over_seeds([count / photos for count in correct]),
        "log_loss": statistics.fmean(one.log_loss for one in scored),
    }


def _against(pairs: Sequence[tuple[Scored, Scored]]) -> dict[str, Any]:
    """The cell minus the preset, same photos, same seeds.

    Returns:
        `difference` in accuracy, as a fraction; `gained` and `lost`, photos that only the cell or only the preset has right, summed
        over seeds; `interval` over photos: `paired_interval` for one seed or where no photo changed sides, else the bootstrap-t of each
        photo's mean change over seeds; `over_seeds`: paired t-interval, None with one pair.
    """
    changes = np.stack(
        [after.is_right.astype(np.int64) - before.is_right for before, after in pairs]
    )  # (seeds, photos)
    gained, lost = int((changes > 0).sum()), int((changes < 0).sum())
    photos = changes.shape[1]
    if len(pairs) == 1 or gained + lost == 0:
        interval = paired_interval(gained, lost, photos)
    else:
        interval = mean_interval(changes.mean(axis=0), bounds=(-1.0, 1.0))
    return {
        "difference": float(changes.mean()),
        "gained": gained,
        "lost": lost,
        "interval": asdict(interval),
        "over_seeds": over_seeds(changes.mean(axis=1).tolist()),
    }
