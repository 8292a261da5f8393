"""Every baseline scored, and the run's network against each of them, photo by photo."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.statistics import Proportion, bonferroni, mcnemar_exact, paired_interval, simultaneous_level

LEVEL, ALPHA = 0.95, 0.05
NOTE = (
    "No baseline trains the network; frozen features are its pretrained ones, pooled. Preset pixels: as this run was fed; own pixels: as "
    "the backbone was pretrained with. Differences are this run's share of test photos right minus the baseline's, in "
    "points; p: exact McNemar test. Intervals (95 %) and p hold for all baselines together, and an interval excludes 0 exactly where p is "
    "below 0.05."
)


@dataclass(frozen=True, slots=True)
class Baseline:
    """One baseline's answers on the test photos, or the reason why it has none.

    Attributes:
        name: `majority`, `nearest`, `probe`, `nearest_own`, `probe_own` or `head`; `_own`: under the backbone's own pixel contract.
        title: What it is, for a reader.
        answers: Class index of each test photo, `(photos,)` int64; None where there are none.
        seconds: What it cost, features included.
        problem: Why there are no answers.
    """

    name: str
    title: str
    answers: NDArray[np.int64] | None
    seconds: float = 0.0
    problem: str | None = None


def baselines_record(
    measured: Sequence[Baseline], tuned: NDArray[np.int64], labels: NDArray[np.int64], *, is_finetuned: bool
) -> dict[str, Any]:
    """What `baselines.json` holds, but for its words.

    Args:
        measured: The baselines.
        tuned: The run's answers on the test photos, `(photos,)`.
        labels: The truth, `(photos,)`.
        is_finetuned: Whether the run trained any of its backbone, or only a head on frozen features.

    Returns:
        Plain values: `measured`, each with its accuracy and `against`, the run's difference to it; `tuned`; `is_finetuned`; `note`.
    """
    answered = [baseline for baseline in measured if baseline.answers is not None]
    p_values = [_mcnemar(baseline.answers, tuned, labels) for baseline in answered]
    adjusted = dict(zip([baseline.name for baseline in answered], bonferroni(p_values), strict=True))
    level = simultaneous_level(len(answered), LEVEL)
    return {
        "baselines": [_plain(baseline, tuned, labels, adjusted.get(baseline.name), level) for baseline in measured],
        "tuned": _accuracy(tuned, labels),
        "is_finetuned": is_finetuned,
        "note": NOTE,
    }


def paired_change(
    first: NDArray[np.int64], second: NDArray[np.int64], labels: NDArray[np.int64], level: float = LEVEL
) -> dict[str, Any]:
    """Second minus first on the same photos: difference, interval, photos that changed sides."""
    gained, lost = _changes(first, second, labels)
    interval = paired_interval(gained, lost, len(labels), level)
    difference = (gained - lost) / len(labels)
    return {"difference": difference, "interval": dataclasses.asdict(interval), "gained": gained, "lost": lost}


def _plain(
    baseline: Baseline, tuned: NDArray[np.int64], labels: NDArray[np.int64], p: float | None, level: float
) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": baseline.name, "title": baseline.title, "seconds": round(baseline.seconds, 2)}
    if baseline.answers is None or p is None:
        return {**plain, "problem": baseline.problem}
    against = {**paired_change(baseline.answers, tuned, labels, level), "p_adjusted": p, "is_told_apart": p < ALPHA}
    return {**plain, "accuracy": _accuracy(baseline.answers, labels), "against": against}


def _accuracy(answers: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Any]:
    return dataclasses.asdict(Proportion.build(int((answers == labels).sum()), len(labels), LEVEL))


def _changes(first: NDArray[np.int64], second: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[int, int]:
    was, is_now = first == labels, second == labels
    return int((is_now & ~was).sum()), int((was & ~is_now).sum())


def _mcnemar(first: NDArray[np.int64] | None, second: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    assert first is not None  # only baselines with answers are tested
    return mcnemar_exact(*_changes(first, second, labels)).p
