"""What the temperature of a run is worth: log loss on test photos without one, by the rule of runs, and with the best fit always.

    python benchmarks/bench_temperature.py --data DIR … [--resplits N] [--variants as-is,per20] [--preset NAME]

The layer of the preset is solved anew for each resplit, from features that are computed once, as in `bench_probe.py`; the temperature is
fitted on the resplit's validation photos. `chosen`: with the penalty that cross-validation chooses; `too sure`: with 1e-6, a network that
was trained until it is sure of everything; `too unsure`: with 3e-2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bench_probe import Probe
from common import describe_machine, new_parser
from numpy.typing import NDArray
from recipe_splits import SPLITS, find_photos, show_mean, size_of, split_again

from finetunekit.evaluation.scores import fit_calibration
from finetunekit.models.linear_probe.cross_validation import fit_chosen
from finetunekit.models.linear_probe.linear import fit_linear
from finetunekit.statistics import apply_temperature, photo_log_losses

PENALTIES = {"too sure": 1e-6, "too unsure": 3e-2}


class Tried:
    """Log losses of one kind of layer over resplits."""

    def __init__(self) -> None:
        self.losses: dict[str, list[float]] = {"none": [], "rule": [], "best fit": []}
        self.temperatures: list[float] = []

    def add(self, shares: Sequence[NDArray[np.float64]], labels: Sequence[NDArray[np.int64]]) -> None:
        """One resplit: probabilities and labels of validation, then of test photos."""
        (valid, test), (known, truth) = shares, labels
        found = fit_calibration(valid, known, [str(i) for i in range(len(known))])
        self.temperatures.append(found["temperature"])
        for name, value in (("none", 1.0), ("rule", found["temperature"]), ("best fit", found["fit"]["temperature"])):
            self.losses[name].append(float(photo_log_losses(apply_temperature(test, value), truth).mean()))

    def show(self, name: str) -> str:
        """One line."""
        told = sum(value != 1.0 for value in self.temperatures)
        losses = "; ".join(f"{way} {show_mean(values, 4)}" for way, values in self.losses.items())
        return f"  {name}: log loss {losses}; told from 1 in {told} of {len(self.temperatures)}"


def try_task(task: Probe, splits: Sequence[dict[str, list[tuple[Path, str]]]]) -> dict[str, Tried]:
    """Each kind of layer over resplits."""
    tried = {name: Tried() for name in ("chosen", *PENALTIES)}
    for split in splits:
        rows = {name: [task.row[path.resolve()] for path, _ in split[name]] for name in SPLITS}
        train, labels = task.features[rows["train"]], task.labels[rows["train"]]
        fits = {"chosen": fit_chosen(train, labels, task.classes)[0]}
        for name, penalty in PENALTIES.items():
            fits[name] = fit_linear(train, labels, task.classes, penalty=penalty, solver="logistic")
        for name, fit in fits.items():
            asked = [rows["valid"], rows["test"]]
            tried[name].add(
                [fit.probabilities(task.features[part]) for part in asked], [task.labels[part] for part in asked]
            )
    return tried


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--resplits", type=int, default=10)
    parser.add_argument("--variants", default="as-is,per20")
    parser.add_argument("--preset", default="felidae4-fast")
    asked = parser.parse_args()
    print(describe_machine(), flush=True)
    for data in asked.data:
        task, photos = Probe(data.resolve(), asked.preset, []), find_photos(data.resolve())
        for variant in asked.variants.split(","):
            splits = [split_again(photos, number, size_of(variant, "per")) for number in range(asked.resplits)]
            tried = try_task(task, splits)
            print(f"{data} {variant}: {len(splits[0]['valid'])} validation, {len(splits[0]['test'])} test photos")
            for name, one in tried.items():
                print(one.show(name), flush=True)


if __name__ == "__main__":
    main()
