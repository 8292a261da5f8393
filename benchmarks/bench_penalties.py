"""What a probe gains by averaging over penalties, and by how much loud channels may count; over resplits.

    python benchmarks/bench_penalties.py --data DIR [--resplits N] [--variants per10,per20,as-is] [--presets fast,small-data]

Photos pass through each preset's network once; the rest is solved for each resplit as the preset solves it, with mirror images. `one` is
the penalty with the least cross-validated log loss, `mixture` the average that runs use. `loudest` is the largest deviation that a channel
keeps, where the typical one has 1; without a bound, channels stay as they are but for one factor. The resplits are those of
`bench_recipes.py`; validation photos are used for nothing. Intervals are Student's t over resplits, which share photos, so that they are
somewhat too narrow; differences are from the first line, paired.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from bench_probe import Probe, score_answers, show_ratio, show_scores
from common import describe_machine, new_parser
from numpy.typing import NDArray
from recipe_splits import find_photos, size_of, split_again

from finetunekit.models.linear_probe import scaling
from finetunekit.models.linear_probe.cross_validation import Recipe, choose_penalty, fit_chosen
from finetunekit.models.linear_probe.linear import Mixture
from finetunekit.system.threads import one_thread

Scores = tuple[int, int, float]
LOUDEST = {"1": 1.0, "2": 2.0, "unbound": float("inf")}


def score_both(probe: Probe, train: NDArray[np.int64], test: NDArray[np.int64]) -> dict[str, Scores]:
    """Right, photos and mean log loss on test photos: of the one penalty, and of the mixture."""
    looks, labels = (probe.features, probe.mirrored), np.tile(probe.labels[train], 2)
    rows, groups = np.concatenate([look[train] for look in looks]), [str(i) for i in train] * 2
    recipe = Recipe(folds=probe.stage.folds, views=2)
    found = {}
    with one_thread():
        choice = choose_penalty(rows, labels, probe.classes, recipe, groups=groups)
        asked: dict[str, float | Mixture] = {"one": choice.penalty, "mixture": choice.mixture}
        for name, penalty in asked.items():
            fit, _ = fit_chosen(rows, labels, probe.classes, Recipe(penalty=penalty))
            shares = np.mean([fit.probabilities(look[test]) for look in looks], axis=0)
            found[name] = score_answers(shares, probe.labels[test])
    return found


def run_preset(probe: Probe, splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Iterator[str]:
    """Every contestant on every resplit, in lines."""
    of: dict[str, list[Scores]] = {}
    for name, loudest in LOUDEST.items():
        started, usual = time.perf_counter(), scaling.LOUDEST
        scaling.LOUDEST = loudest
        try:
            both = [score_both(probe, train, test) for train, test in splits]
        finally:
            scaling.LOUDEST = usual
        for penalty in ("one", "mixture"):
            label = f"loudest {name}, {penalty}"
            of[label] = [each[penalty] for each in both]
            yield show_scores(label, of[label], time.perf_counter() - started)
            if label != next(iter(of)):
                yield show_ratio("", of[label], of[next(iter(of))], next(iter(of)))


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders, with or without splits")
    parser.add_argument("--resplits", type=int, default=10)
    parser.add_argument("--variants", default="per20,as-is")
    parser.add_argument("--presets", default="fast,small-data")
    asked = parser.parse_args()
    print(describe_machine(), flush=True)
    photos = find_photos(asked.data.resolve())
    for preset in asked.presets.split(","):
        probe = Probe(asked.data.resolve(), preset, [])
        for variant in asked.variants.split(","):
            print(f"{preset}, {variant}, {asked.resplits} resplits", flush=True)
            splits = []
            for number in range(asked.resplits):
                split = split_again(photos, number, size_of(variant, "per"))
                rows = {part: np.array([probe.row[path.resolve()] for path, _ in split[part]]) for part in split}
                splits.append((rows["train"], rows["test"]))
            for line in run_preset(probe, splits):
                print(line, flush=True)


if __name__ == "__main__":
    main()
