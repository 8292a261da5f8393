"""Probes over resplits, from features that are computed once: what the recipes' accuracy and log loss are worth beside a plain script's.

    python benchmarks/bench_probe.py --data DIR [--resplits N] [--variants as-is,px75,per20] [--presets A,B] [--plain] [--set a.b=VALUE ...]

A run of a preset passes every photo through the frozen network and solves its last layer. Here the photos pass once, and the layer is
solved for each resplit by the same code, with the stage's own options: mirror images, repeats, and `evaluate.flip`. What a preset does
after its first stage is left out. The resplits are those of `bench_recipes.py`. Validation photos are used for nothing.

--unit-length adds each preset once more, the features of every photo divided by their length. --plain adds `plain_probe.py` on the same
photos: what a user writes in fifteen lines. Intervals are Student's t over resplits, which share
photos, so that they are somewhat too narrow; ratios are of mean log losses, differences are paired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import partial
from pathlib import Path

import numpy as np
import plain_probe
from common import describe_machine, new_parser
from numpy.typing import NDArray
from recipe_splits import SPLITS, find_photos, show_mean, size_of, split_again

from finetunekit.config.planning import prepare
from finetunekit.config.training_sections import SolveStage
from finetunekit.data.index import build_index
from finetunekit.data.listing import list_photos
from finetunekit.evaluation.probe_features import ProbeFeatures, open_probe
from finetunekit.models.linear_probe.cross_validation import Recipe, fit_chosen
from finetunekit.statistics import photo_log_losses
from finetunekit.system.progress import Progress
from finetunekit.system.threads import one_thread

Split = dict[str, list[tuple[Path, str]]]
PLAIN = "plain script"
#: From training rows and labels to the test rows' probabilities.
Contestant = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]


class Probe:
    """A preset's features of all photos of a folder, of their mirror images where it looks at those, and how it solves."""

    def __init__(self, data: Path, preset: str, settings: Sequence[str]) -> None:
        progress = Progress()
        plan, _ = prepare(preset, settings=[f"data.root='{data}'", *settings], progress=progress)
        stage = plan.config.stages[0]
        assert isinstance(stage, SolveStage)  # the recipes begin with one
        index = build_index(list_photos(plan, progress), max_pixels=plan.config.data.max_photo_pixels)
        self.probe, self.stage, self.flip = open_probe(plan, index, progress), stage, plan.config.evaluate.flip
        self.features = np.concatenate([self.probe.split(split)[0] for split in SPLITS])
        self.mirrored = _mirrored(self.probe) if stage.mirror or self.flip else self.features
        if plan.config.head.options.get("unit_length"):
            self.features, self.mirrored = of_length_one(self.features), of_length_one(self.mirrored)
        self.labels = np.concatenate([self.probe.split(split)[1] for split in SPLITS])
        self.classes = len(index.classes)
        paths = [photo.path for split in SPLITS for photo in index.split(split)]
        self.row = {path.resolve(): i for i, path in enumerate(paths)}

    def ask(self, train: NDArray[np.int64], labels: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        """Solve on training photos and answer test photos, as the preset does."""
        looks = [self.features, self.mirrored] if self.stage.mirror else [self.features]
        recipe = Recipe(
            self.stage.solver, self.stage.penalty, self.stage.folds, repeats=self.stage.repeats, views=len(looks)
        )
        rows, groups = np.concatenate([look[train] for look in looks]), [str(i) for i in train] * len(looks)
        fit, _ = fit_chosen(rows, np.tile(labels, len(looks)), self.classes, recipe, groups=groups)
        shares = fit.probabilities(self.features[test])
        return (shares + fit.probabilities(self.mirrored[test])) / 2 if self.flip else shares


def of_length_one(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each photo's features divided by their length, times the square root of their number."""
    scale = np.sqrt(features.shape[1]) / np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features * scale, np.float32)


def with_unit_length(probe: Probe) -> Probe:
    """The same preset on features of length one."""
    other = copy(probe)
    other.features, other.mirrored = of_length_one(probe.features), of_length_one(probe.mirrored)
    return other


def _mirrored(probe: ProbeFeatures) -> NDArray[np.float32]:
    """Features of mirror images, split after split."""
    splits = [(split, probe.photos.split(split)) for split in SPLITS]
    return np.concatenate(
        [probe.features_of(photos.mirrored(), f"mirrored {split}") for split, photos in splits if len(photos.labels)]
    )


def plain_contestant(paths: Sequence[Path], source_px: int | None) -> Contestant:
    """The plain script's probe, its features computed once."""
    load = partial(plain_probe.load_square, source_px=source_px)
    features = plain_probe.extract(plain_probe.build_network(), paths, load)
    return lambda train, labels, test: plain_probe.fit_and_ask(features[train], labels, features[test])


def score_answers(shares: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[int, int, float]:
    """Right, photos and mean log loss of probabilities, `(photos, classes)`."""
    return int((shares.argmax(axis=1) == labels).sum()), len(labels), float(photo_log_losses(shares, labels).mean())


def score(ask: Contestant, probe: Probe, split: Split) -> tuple[int, int, float]:
    """Right, photos and mean log loss on the test photos of a split."""
    train, test = (np.array([probe.row[path.resolve()] for path, _ in split[name]]) for name in ("train", "test"))
    return score_answers(ask(train, probe.labels[train], test), probe.labels[test])


def show_scores(name: str, scores: Sequence[tuple[int, int, float]], fit_s: float) -> str:
    """One line."""
    right, photos = sum(one[0] for one in scores), sum(one[1] for one in scores)
    shares = show_mean([100 * one[0] / one[1] for one in scores], 2)
    losses = show_mean([one[2] for one in scores], 4)
    return f"  {name:20} right {right}/{photos} = {shares} %   log loss {losses}   {fit_s / len(scores):.1f} s a fit"


def show_ratio(
    name: str, scores: Sequence[tuple[int, int, float]], others: Sequence[tuple[int, int, float]], beside: str
) -> str:
    """One line: a contestant beside another."""
    own, other = ([one[2] for one in scores] for scores in (scores, others))
    paired = [a - b for a, b in zip(own, other, strict=True)]
    higher = sum(difference > 0 for difference in paired)
    ratio = sum(own) / sum(other)
    return (
        f"  {name:20} / {beside}: {ratio:.2f}   difference {show_mean(paired, 4)}   higher in {higher} of {len(paired)}"
    )


def run_variant(
    probes: dict[str, Probe], plain: Contestant | None, splits: Sequence[Split], variant: str
) -> Iterator[str]:
    """Every contestant on every resplit of one variant, in lines."""
    yield f"{variant}, {len(splits)} resplits"
    anyone = next(iter(probes.values()))
    contestants = {name: (probe.ask, probe) for name, probe in probes.items()}
    if plain is not None:
        contestants = {PLAIN: (plain, anyone), **contestants}
    of = {}
    for name, (ask, probe) in contestants.items():
        started = time.perf_counter()
        with one_thread():  # as ours are fitted; on two threads of a busy machine scikit-learn's waits most of the time
            of[name] = [score(ask, probe, split) for split in splits]
        yield show_scores(name, of[name], time.perf_counter() - started)
    yield from (show_ratio(name, of[name], of[PLAIN], PLAIN) for name in probes if plain is not None)
    for name in probes:
        if (other := f"{name}, length 1") in probes:
            yield show_ratio(other, of[other], of[name], name)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders, with or without splits")
    parser.add_argument("--resplits", type=int, default=10)
    parser.add_argument("--variants", default="as-is,px75,per20")
    parser.add_argument("--presets", default="fast")
    parser.add_argument("--unit-length", action="store_true", help="each preset on features of length one as well")
    parser.add_argument("--plain", action="store_true", help="the plain script as well")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=VALUE")
    asked = parser.parse_args()
    print(describe_machine(), flush=True)
    data, photos = asked.data.resolve(), find_photos(asked.data.resolve())
    known: dict[int | None, tuple[dict[str, Probe], Contestant | None]] = {}
    for variant in asked.variants.split(","):
        source_px = size_of(variant, "px")
        if source_px not in known:
            shrink = [f"pixels.source_px={source_px}"] if source_px else []
            probes = {name: Probe(data, name, [*asked.settings, *shrink]) for name in asked.presets.split(",")}
            if asked.unit_length:
                probes |= {f"{name}, length 1": with_unit_length(probe) for name, probe in probes.items()}
            paths = list(next(iter(probes.values())).row)
            known[source_px] = probes, plain_contestant(paths, source_px) if asked.plain else None
        splits = [split_again(photos, number, size_of(variant, "per")) for number in range(asked.resplits)]
        for line in run_variant(*known[source_px], splits, variant):
            print(line, flush=True)


if __name__ == "__main__":
    main()
