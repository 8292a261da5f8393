"""How well photos that show none of the classes are told: of other things, and of a class that was left out.

    python benchmarks/bench_unlike.py --data DIR --data DIR … [--preset NAME] [--leave CLASS …]

Each folder is a task of its own: a network's features (those of the preset's backbone, frozen, as its last layer reads them), training,
validation and test photos as the folder or the preset's seed has them. Other pictures are the photos of the other folders, without the
classes named by --leave, such as snakes where this task has snakes; and each class of the task in turn, with the others as the task. Scores
are compared on the test photos of the task: area under the ROC curve, the chance that such a photo is stranger than one of the task, with
its 95 % interval (DeLong); of the score that runs use also how many photos it calls unlike, and how many of the task's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from bench_probe import Probe
from common import describe_machine, new_parser
from numpy.typing import NDArray
from recipe_splits import SPLITS

from finetunekit.evaluation.likeness import Traits, distances, keep_features, traits_of, unit_length
from finetunekit.models.linear_probe.cross_validation import fit_chosen
from finetunekit.models.linear_probe.linear import LinearFit
from finetunekit.statistics import log_sum_exp, wilson_interval

Floats = NDArray[np.float64]
Z = 1.96


def strangeness(
    fit: LinearFit, train: NDArray[np.float32], labels: NDArray[np.int64], asked: NDArray[np.float32]
) -> dict[str, Floats]:
    """Name of a score → its value for each photo, `(photos,)`; larger is stranger."""
    from sklearn.covariance import ledoit_wolf

    unit, other = unit_length(train), unit_length(asked)
    logits = fit.logits(asked)
    known, names = traits_of(train, fit.logits(train)), [str(row) for row in range(len(train))]
    means = np.stack([unit[labels == k].mean(axis=0) for k in range(int(labels.max()) + 1)])
    spread, _ = ledoit_wolf(unit - means[labels], assume_centered=True)
    whiten = np.linalg.inv(np.linalg.cholesky(spread)).T
    far = (((other @ whiten)[:, None] - (means @ whiten)[None]) ** 2).sum(axis=-1)
    return {
        "both": keep_features(known, names, known, names).unlikeness(traits_of(asked, logits)),
        "nearest 5": distances(unit.astype(np.float16), asked),
        "nearest 1": 1.0 - (other @ unit.T).max(axis=1).astype(np.float64),
        "Mahalanobis": far.min(axis=1),
        "energy": -log_sum_exp(logits),
        "probability": 1.0 - fit.probabilities(asked).max(axis=1),
    }


def roc_area(strange: Floats, ordinary: Floats) -> tuple[float, float, float]:
    """Area under the ROC curve with its 95 % interval on the logit scale.

    Source: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44(3), 837-845.
    """
    above = (strange[:, None] > ordinary[None]) + 0.5 * (strange[:, None] == ordinary[None])
    area = float(above.mean())
    error = float(
        np.sqrt(above.mean(axis=1).var(ddof=1) / len(strange) + above.mean(axis=0).var(ddof=1) / len(ordinary))
    )
    if area == 1.0:  # no pair is the wrong way round: as if each picture of the smaller group had had one chance
        few = min(len(strange), len(ordinary))
        return area, wilson_interval(few, few).low, 1.0
    middle, step = np.log(area / (1 - area)), Z * error / (area * (1 - area))
    low, high = 1 / (1 + np.exp(-(middle + np.array([-step, step]))))
    return area, float(low), float(high)


class Measured:
    """One task beside pictures that are not of it."""

    def __init__(self, task: Probe, own: Mapping[str, NDArray[np.intp]], left: int | None = None) -> None:
        kept = {split: rows[task.labels[rows] != left] for split, rows in own.items()}
        self.task, self.rows = task, kept
        _, self.labels = np.unique(task.labels[kept["train"]], return_inverse=True)
        self.train = task.features[kept["train"]]
        self.fit, _ = fit_chosen(self.train, self.labels, int(self.labels.max()) + 1)

    def traits(self, split: str) -> Traits:
        """Of the photos of a split."""
        features = self.task.features[self.rows[split]]
        return traits_of(features, self.fit.logits(features))

    def show(self, name: str, asked: NDArray[np.float32]) -> None:
        """One line a method."""
        features, count = self.task.features, len(asked)
        both = strangeness(self.fit, self.train, self.labels, np.concatenate([asked, features[self.rows["test"]]]))
        areas = {method: roc_area(values[:count], values[count:]) for method, values in both.items()}
        print(f"{name}: {count} pictures, {len(self.rows['test'])} test photos")
        print(
            "  "
            + "; ".join(f"{method} {area:.3f} ({low:.3f} to {high:.3f})" for method, (area, low, high) in areas.items())
        )
        names = {split: [str(row) for row in rows] for split, rows in self.rows.items()}
        kept = keep_features(self.traits("train"), names["train"], self.traits("valid"), names["valid"])
        parts = (traits_of(asked, self.fit.logits(asked)), self.traits("test"))
        told = [int((kept.p_values(part) <= (kept.unlike_at or 0)).sum()) for part in parts]
        of = [count, len(self.rows["test"])]
        between = [wilson_interval(k, n) for k, n in zip(told, of, strict=True)]
        words = [
            f"{k} of {n} ({100 * i.low:.1f} to {100 * i.high:.1f} %)" for k, n, i in zip(told, of, between, strict=True)
        ]
        print(
            f"  called unlike at p <= {kept.unlike_at or 0:.3f}: {words[0]} of them, {words[1]} of the task's own",
            flush=True,
        )


def rows_of(task: Probe) -> dict[str, NDArray[np.intp]]:
    """Split → rows of its photos among the features."""
    ends = np.cumsum([0, *(len(task.probe.index.split(split)) for split in SPLITS)])
    return {split: np.arange(ends[i], ends[i + 1]) for i, split in enumerate(SPLITS)}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--preset", default="felidae4-fast")
    parser.add_argument("--leave", action="append", default=[], metavar="CLASS", help="no part of the other pictures")
    asked = parser.parse_args()
    print(describe_machine(), flush=True)
    tasks: dict[str, Probe] = {str(data): Probe(data.resolve(), asked.preset, []) for data in asked.data}
    for name, task in tasks.items():
        own, names = rows_of(task), task.probe.index.classes
        for other, foreign in tasks.items():
            if other != name:
                leave = [i for i, label in enumerate(foreign.probe.index.classes) if label in asked.leave]
                Measured(task, own).show(f"{name} beside {other}", foreign.features[~np.isin(foreign.labels, leave)])
        for left, label in enumerate(names):
            Measured(task, own, left).show(f"{name} without {label}", task.features[task.labels == left])


if __name__ == "__main__":
    main()
