"""The probe of `felidae4-fast` over resplits, from features that are computed once: what its accuracy and log loss are worth.

    python benchmarks/bench_probe.py --data DIR [--resplits N] [--variants as-is,px75,per20] [--preset NAME] [--set a.b=VALUE ...]

A run of the preset passes every photo through the frozen network and solves its last layer. Here the photos pass once, and the layer is
solved for each resplit by the same code; the resplits are those of `bench_recipes.py`. Validation photos are used for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import describe_machine, new_parser
from recipe_splits import SPLITS, find_photos, show_mean, size_of, split_again

from finetunekit.config.planning import prepare
from finetunekit.data.index import build_index
from finetunekit.data.listing import list_photos
from finetunekit.evaluation.probe_features import open_probe
from finetunekit.models.linear_probe.cross_validation import fit_chosen
from finetunekit.statistics import photo_log_losses
from finetunekit.system.progress import Progress


class Task:
    """Features of all photos of a folder, and where each photo is among them."""

    def __init__(self, data: Path, preset: str, settings: Sequence[str]) -> None:
        progress = Progress()
        plan, _ = prepare(preset, settings=[f"data.root='{data}'", *settings], progress=progress)
        index = build_index(list_photos(plan, progress), max_pixels=plan.config.data.max_photo_pixels)
        probe = open_probe(plan, index, progress)
        parts = [probe.split(split) for split in SPLITS]
        self.features = np.concatenate([features for features, _ in parts])
        self.labels = np.concatenate([labels for _, labels in parts])
        self.names, self.classes = index.classes, len(index.classes)
        ends = np.cumsum([0, *(len(labels) for _, labels in parts)])
        self.splits = {split: range(ends[i], ends[i + 1]) for i, split in enumerate(SPLITS)}
        paths = [photo.path for split in SPLITS for photo in index.split(split)]
        self.row = {path.resolve(): i for i, path in enumerate(paths)}

    def score(self, split: dict[str, list[tuple[Path, str]]]) -> tuple[int, int, float]:
        """Right, photos and mean log loss on the test photos of a split."""
        train, test = ([self.row[path.resolve()] for path, _ in split[name]] for name in ("train", "test"))
        fit, _ = fit_chosen(self.features[train], self.labels[train], self.classes)
        shares, labels = fit.probabilities(self.features[test]), self.labels[test]
        right = int((shares.argmax(axis=1) == labels).sum())
        return right, len(test), float(photo_log_losses(shares, labels).mean())


def show_variant(variant: str, scores: Sequence[tuple[int, int, float]]) -> str:
    """One line."""
    right, photos = sum(score[0] for score in scores), sum(score[1] for score in scores)
    shares = [100 * score[0] / score[1] for score in scores]
    losses = show_mean([score[2] for score in scores], 4)
    return f"{variant}, {len(scores)} resplits: right {right}/{photos} = {show_mean(shares, 2)} %   log loss {losses}"


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders, with or without splits")
    parser.add_argument("--resplits", type=int, default=10)
    parser.add_argument("--variants", default="as-is,px75,per20")
    parser.add_argument("--preset", default="felidae4-fast")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=VALUE")
    asked = parser.parse_args()
    print(describe_machine(), flush=True)
    data, photos = asked.data.resolve(), find_photos(asked.data.resolve())
    tasks: dict[int | None, Task] = {}
    for variant in asked.variants.split(","):
        source_px = size_of(variant, "px")
        if source_px not in tasks:
            shrink = [f"pixels.source_px={source_px}"] if source_px else []
            tasks[source_px] = Task(data, asked.preset, [*asked.settings, *shrink])
        splits = [split_again(photos, number, size_of(variant, "per")) for number in range(asked.resplits)]
        print(show_variant(variant, [tasks[source_px].score(split) for split in splits]), flush=True)


if __name__ == "__main__":
    main()
