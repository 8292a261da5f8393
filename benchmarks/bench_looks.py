"""What several looks at a photo are worth to a probe, and whether choosing among them on training photos pays; over resplits.

    python benchmarks/bench_looks.py --data DIR [--resplits N] [--variants as-is,per20] [--only NAME ...] [--beside NAME]

A look is a network with a size and a part of the photo: the middle, the whole short side, all of it stretched or padded. Photos pass
through each network once; the rest is solved for each resplit, as the presets solve it, with mirror images in training and in the answers.
Contestants join the features of their looks, average them, or train on all of them as on further photos and average the answers. Some
choose a look, or mix the answers of several, by cross-validation on the training photos alone, of which each was left out in turn:

- `least`: the look with the least log loss;
- `within one error`: the first look, unless another's mean difference from it is further below 0 than its standard error;
- `95 %`: the first look, unless the interval of another's difference from it lies below 0;
- `mean`: none is chosen, the answers are averaged.

The resplits are those of `bench_recipes.py`; validation photos are used for nothing. Intervals are Student's t over resplits, which share
photos, so that they are somewhat too narrow; differences from --beside are paired. Seconds are for solving alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from bench_probe import Probe, of_length_one, score_answers, show_ratio, show_scores
from common import describe_machine, new_parser
from numpy.typing import NDArray
from recipe_splits import find_photos, size_of, split_again

from finetunekit.config.planning import prepare
from finetunekit.models.linear_probe.cross_validation import Recipe, choose_penalty, cross_validate, fit_chosen
from finetunekit.statistics import mean_interval, photo_log_losses, softmax
from finetunekit.system.threads import one_thread

Features = NDArray[np.float32]
Rows = NDArray[np.int64]
Shares = NDArray[np.float64]
LITE2 = ("backbone={name: efficientnet_lite2}", "pixels.size_px=260")
#: Look → settings of `fast`.
PARTS: dict[str, tuple[str, ...]] = {
    "lite0": (),
    "lite0-whole": ("pixels.crop_pct=1",),
    "lite0-256": ("pixels.crop_pct=1", "pixels.size_px=256"),
    "lite0-stretch": ("pixels.fit=stretch",),
    "lite0-pad": ("pixels.fit=pad",),
    "lite2": LITE2,
    "lite2-whole": (*LITE2, "pixels.crop_pct=1"),
    "lite2-stretch": (*LITE2, "pixels.fit=stretch"),
}
#: A part's 1000-way answers are its name and this.
ANSWERS = "-answers"


@dataclass(frozen=True, slots=True)
class Looks:
    """One probe on looks that are fixed.

    Attributes:
        looks: Each is one or more parts, whose features stand side by side.
        blend: `rows`: every look at a photo is one more row, and answers are averaged; `mean`: the looks' features are averaged.
        repeats: How often the cross-validation that chooses the penalty is repeated.
        unit_length: Whether a look's features are divided by their length.
    """

    looks: tuple[tuple[str, ...], ...]
    blend: Literal["rows", "mean"] = "rows"
    repeats: int = 1
    unit_length: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several probes, or their mean.

    Attributes:
        among: Names of contestants.
        rule: See the head of this file.
    """

    among: tuple[str, ...]
    rule: Literal["least", "within one error", "95 %", "mean"]


CUTS = ("Lite0", "Lite0 whole", "Lite0 stretched", "Lite0 padded")
JOINED_CUTS = ("Lite0 and Lite2", "both whole", "both stretched")
CONTESTANTS: dict[str, Looks | Choice] = {
    "Lite0": Looks((("lite0",),)),
    "Lite0 whole": Looks((("lite0-whole",),)),
    "Lite0 whole, 256 px": Looks((("lite0-256",),)),
    "Lite0 stretched": Looks((("lite0-stretch",),)),
    "Lite0 padded": Looks((("lite0-pad",),)),
    "Lite0, 5 repeats": Looks((("lite0",),), repeats=5),
    "Lite0, of length one": Looks((("lite0",),), unit_length=True),
    "Lite0, middle and whole, rows": Looks((("lite0",), ("lite0-whole",))),
    "Lite0, middle and whole, mean": Looks((("lite0",), ("lite0-whole",)), "mean"),
    "Lite0, middle and whole, joined": Looks((("lite0", "lite0-whole"),)),
    "Lite0, middle and stretched, mean": Looks((("lite0",), ("lite0-stretch",)), "mean"),
    "Lite0 and its 1000 answers": Looks((("lite0", "lite0-answers"),)),
    "Lite0, least": Choice(CUTS, "least"),
    "Lite0, within one error": Choice(CUTS, "within one error"),
    "Lite0, 95 %": Choice(CUTS, "95 %"),
    "Lite0, mean of answers": Choice(CUTS, "mean"),
    "Lite0 and Lite2": Looks((("lite0", "lite2"),)),
    "both whole": Looks((("lite0-whole", "lite2-whole"),)),
    "both stretched": Looks((("lite0-stretch", "lite2-stretch"),)),
    "both, middle and whole, mean": Looks((("lite0", "lite2"), ("lite0-whole", "lite2-whole")), "mean"),
    "both, middle and whole, joined": Looks((("lite0", "lite2", "lite0-whole", "lite2-whole"),)),
    "both and their 1000 answers": Looks((("lite0", "lite2", "lite0-answers", "lite2-answers"),)),
    "Lite0 whole, Lite2": Looks((("lite0-whole", "lite2"),)),
    "Lite0, Lite2 whole": Looks((("lite0", "lite2-whole"),)),
    "Lite0 stretched, Lite2": Looks((("lite0-stretch", "lite2"),)),
    "both, of length one": Looks((("lite0", "lite2"),), unit_length=True),
    "Lite2": Looks((("lite2",),)),
    "Lite0 and Lite2, mean of answers": Choice(("Lite0", "Lite2"), "mean"),
    "both, least": Choice(JOINED_CUTS, "least"),
    "both, within one error": Choice(JOINED_CUTS, "within one error"),
    "both, 95 %": Choice(JOINED_CUTS, "95 %"),
    "both, mean of answers": Choice(JOINED_CUTS, "mean"),
}


def with_answers(probe: Probe, settings: Sequence[str]) -> tuple[Features, Features]:
    """Log-probabilities of the network's own 1000 classes, `(photos, 1000)`, of photos and mirror images, on the scale of its features."""
    from finetunekit.models.load_weights import find_weights
    from finetunekit.models.weights import load_top

    plan = prepare("fast", settings=settings)[0]
    kernel, bias = load_top(find_weights(plan, lambda _: None), plan.spec)
    answers = [np.log(np.maximum(softmax(look @ kernel + bias), 1e-6)) for look in (probe.features, probe.mirrored)]
    scale = probe.features.std(axis=0).mean() / answers[0].std(axis=0).mean()
    first, second = (np.asarray(values * scale, np.float32) for values in answers)
    return first, second


@dataclass
class Bench:
    """One task in one variant.

    Attributes:
        probes: Part → its features of all photos.
        answers: Part → its 1000-way answers of all photos and of their mirror images.
    """

    probes: Mapping[str, Probe]
    answers: Mapping[str, tuple[Features, Features]]
    _known: dict[bytes, tuple[Shares, Shares]] = field(default_factory=dict)

    @property
    def one(self) -> Probe:
        """Any probe: they differ in their features only."""
        return next(iter(self.probes.values()))

    def ask(self, name: str, train: Rows, test: Rows) -> Shares:
        """A contestant's answers to test photos, `(photos, classes)`."""
        contestant = CONTESTANTS[name]
        if isinstance(contestant, Looks):
            return self._solved(contestant, train, test)[0]
        found = [self._solved(looks_of(other), train, test) for other in contestant.among]
        if contestant.rule == "mean":
            mean: Shares = np.mean([answers for answers, _ in found], axis=0)
            return mean
        losses = [photo_log_losses(left_out, self.one.labels[train]) for _, left_out in found]
        return found[RULES[contestant.rule](losses)][0]

    def _solved(self, contestant: Looks, train: Rows, test: Rows) -> tuple[Shares, Shares]:
        """Answers to test photos, and to training photos that were left out, of one probe; the same features are solved once."""
        looks = self._looks(contestant)
        digest = hashlib.sha256(train.tobytes() + bytes([contestant.repeats]))
        for look in looks:
            digest.update(np.ascontiguousarray(look[train]).data)
        if digest.digest() not in self._known:
            self._known[digest.digest()] = self._solve(looks, contestant.repeats, train, test)
        return self._known[digest.digest()]

    def _solve(self, looks: Sequence[Features], repeats: int, train: Rows, test: Rows) -> tuple[Shares, Shares]:
        one = self.one
        recipe = Recipe(folds=one.stage.folds, repeats=repeats, views=len(looks))
        rows, labels = np.concatenate([look[train] for look in looks]), np.tile(one.labels[train], len(looks))
        groups = [str(photo) for photo in train] * len(looks)
        mixture = choose_penalty(rows, labels, one.classes, recipe, groups=groups).mixture
        known = Recipe(penalty=mixture, folds=one.stage.folds)
        left_out = cross_validate(rows, labels, one.classes, known, groups=groups).probabilities
        fit, _ = fit_chosen(rows, labels, one.classes, known)
        answers: Shares = np.mean([fit.probabilities(look[test]) for look in looks], axis=0)
        return answers, left_out.reshape(len(looks), len(train), -1).mean(axis=0)

    def _looks(self, contestant: Looks) -> list[Features]:
        """Features of all photos, a look after the other, mirror images among them."""
        found: list[Features] = []
        for side in range(2):
            joined = [
                np.concatenate([self._features(part)[side] for part in look], axis=1) for look in contestant.looks
            ]
            joined = [of_length_one(look) for look in joined] if contestant.unit_length else joined
            found += joined if contestant.blend == "rows" else [np.mean(joined, axis=0)]
        return found

    def _features(self, part: str) -> tuple[Features, Features]:
        if part.endswith(ANSWERS):
            return self.answers[part.removesuffix(ANSWERS)]
        return self.probes[part].features, self.probes[part].mirrored


def looks_of(name: str) -> Looks:
    """A contestant that is solved and chooses nothing."""
    found = CONTESTANTS[name]
    assert isinstance(found, Looks)  # what is chosen among
    return found


def least(losses: Sequence[NDArray[np.float64]]) -> int:
    """The one with the least mean log loss."""
    return int(np.argmin([one.mean() for one in losses]))


def within_one_error(losses: Sequence[NDArray[np.float64]]) -> int:
    """The best one if it is below the first by more than the standard error of the difference, else the first."""
    best = least(losses)
    difference = losses[best] - losses[0]
    return best if difference.mean() < -difference.std(ddof=1) / np.sqrt(len(difference)) else 0


def by_interval(losses: Sequence[NDArray[np.float64]]) -> int:
    """The best one if the 95 % interval of its difference from the first lies below 0, else the first."""
    best = least(losses)
    return best if best and mean_interval(losses[best] - losses[0]).high < 0 else 0


RULES: dict[str, Callable[[Sequence[NDArray[np.float64]]], int]] = {
    "least": least,
    "within one error": within_one_error,
    "95 %": by_interval,
}


def parts_of(names: Sequence[str]) -> list[str]:
    """Every part that contestants read, the 1000-way answers' networks among them."""
    fixed = [other for name in names for other in getattr(CONTESTANTS[name], "among", (name,))]
    parts = [part.removesuffix(ANSWERS) for name in fixed for look in looks_of(name).looks for part in look]
    return list(dict.fromkeys(parts))


def open_bench(data: Path, names: Sequence[str], source_px: int | None) -> Bench:
    """Compute every feature that contestants read."""
    shrink = [f"pixels.source_px={source_px}"] if source_px else []
    probes = {part: Probe(data, "fast", [*PARTS[part], *shrink]) for part in parts_of(names)}
    asked = [part for part in ("lite0", "lite2") if part in probes]
    return Bench(probes, {part: with_answers(probes[part], PARTS[part]) for part in asked})


def run_variant(
    bench: Bench, names: Sequence[str], beside: str, photos: Mapping[str, Sequence[Path]], variant: str, resplits: int
) -> Iterator[str]:
    """Every contestant on every resplit, in lines."""
    yield f"{variant}, {resplits} resplits"
    one, of = bench.one, {}
    splits = [split_again(photos, number, size_of(variant, "per")) for number in range(resplits)]
    for name in [beside, *(name for name in names if name != beside)]:
        started, scores = time.perf_counter(), []
        for split in splits:
            train, test = (np.array([one.row[path.resolve()] for path, _ in split[part]]) for part in ("train", "test"))
            with one_thread():
                shares = bench.ask(name, train, test)
            scores.append(score_answers(shares, one.labels[test]))
        of[name] = scores
        yield show_scores(name, scores, time.perf_counter() - started)
        if name != beside:
            yield show_ratio("", scores, of[beside], beside)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders, with or without splits")
    parser.add_argument("--resplits", type=int, default=10)
    parser.add_argument("--variants", default="per20,as-is")
    parser.add_argument("--only", metavar="NAME", action="append", help="these contestants only")
    parser.add_argument("--beside", metavar="NAME", default="Lite0", help="the one that others are compared with")
    asked = parser.parse_args()
    print(describe_machine(), flush=True)
    names = list(asked.only or CONTESTANTS)
    data, photos = asked.data.resolve(), find_photos(asked.data.resolve())
    for variant in asked.variants.split(","):
        bench = open_bench(data, [asked.beside, *names], size_of(variant, "px"))
        for line in run_variant(bench, names, asked.beside, photos, variant, asked.resplits):
            print(line, flush=True)


if __name__ == "__main__":
    main()
