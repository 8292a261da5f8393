"""Whether photos that a method chooses to be labelled teach more than photos drawn at random.

    python benchmarks/bench_suggest.py --data DIR [--data DIR ...] [--first 20] [--more 40] [--repeats 20]

Each DIR is a folder of labelled photos. In each repeat a third of the photos of each class is set aside to test on, and of the rest `first`
are drawn, the same number of each class. A probe on them and on features of a frozen backbone answers the others, of which `more` are
labelled: those that a method chooses, or random ones. Then the probe is fitted to all of them and tested. All methods share tests and first
photos, so that differences are paired.

Intervals are Student's t over repeats, which share photos, so that they are somewhat too narrow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from common import describe_machine
from numpy.typing import NDArray

from finetunekit.config.planning import prepare
from finetunekit.data.index import build_index
from finetunekit.data.listing import list_photos
from finetunekit.evaluation.probe_features import open_probe
from finetunekit.models.linear_probe.linear import LinearFit, fit_linear
from finetunekit.statistics import photo_log_losses
from finetunekit.statistics.label_choice import choose_uncertain_clusters
from finetunekit.system.progress import Progress
from finetunekit.system.threads import one_thread
from finetunekit.types import TEST, TRAIN, VALID

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
#: From features of labelled photos, those of unlabelled ones, their probabilities, how many and a seed to positions among the unlabelled.
Method = Callable[[Floats, Floats, Floats, int, int], Ints]


def by_uncertain_clusters(_: Floats, pool: Floats, shares: Floats, count: int, seed: int) -> Ints:
    """CLUE, as `data suggest` chooses: uncertainty and diversity."""
    return choose_uncertain_clusters(shares, pool, count, seed=seed)


def by_gradients(_: Floats, pool: Floats, shares: Floats, count: int, seed: int) -> Ints:
    """k-means++ among gradients of the last layer (Ash et al. 2020, BADGE): uncertainty and diversity."""
    errors = shares - np.eye(shares.shape[1])[shares.argmax(axis=1)]
    lengths = (errors**2).sum(axis=1) * (pool**2).sum(axis=1)
    rng, chosen, nearest = np.random.default_rng(seed), [int(lengths.argmax())], np.full(len(pool), np.inf)
    while len(chosen) < count:
        inner = (errors @ errors[chosen[-1]]) * (pool @ pool[chosen[-1]])
        nearest = np.minimum(nearest, np.maximum(lengths + lengths[chosen[-1]] - 2 * inner, 0.0))
        nearest[chosen] = 0.0
        chosen.append(int(rng.choice(len(pool), p=nearest / nearest.sum())))
    return np.array(chosen)


def by_margin(_: Floats, pool: Floats, shares: Floats, count: int, seed: int) -> Ints:
    """The smallest difference between the two most probable classes (Scheffer et al. 2001): uncertainty alone."""
    best = np.sort(shares, axis=1)
    return np.argsort(best[:, -1] - best[:, -2], kind="stable")[:count]


def by_coverage(labelled: Floats, pool: Floats, shares: Floats, count: int, seed: int) -> Ints:
    """The farthest from all labelled ones, again and again (Sener and Savarese 2018, k-centre greedy): diversity alone."""
    nearest = _distances(pool, labelled).min(axis=1)
    chosen = []
    for _ in range(count):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distances(pool, pool[chosen[-1:]])[:, 0])
    return np.array(chosen)


def by_typicality(labelled: Floats, pool: Floats, shares: Floats, count: int, seed: int) -> Ints:
    """The most typical photo of each cluster without a label (Hacohen et al. 2022, TypiClust): made for few labels."""
    from sklearn.cluster import KMeans

    both = np.concatenate([labelled, pool])
    cluster = KMeans(len(labelled) + count, n_init=1, random_state=seed).fit_predict(both)
    near = np.sort(_distances(pool, pool), axis=1)[:, 1:21].mean(axis=1)
    covered, of_pool = set(cluster[: len(labelled)].tolist()), cluster[len(labelled) :]
    sizes = np.bincount(cluster)
    order = [c for c in np.argsort(-sizes) if c not in covered and (of_pool == c).any()]
    found = [int(np.flatnonzero(of_pool == c)[near[of_pool == c].argmin()]) for c in order[:count]]
    left = np.setdiff1d(np.arange(len(pool)), found)
    return np.array([*found, *left[np.argsort(near[left])][: count - len(found)]])


METHODS: dict[str, Method] = {
    "uncertain clusters (CLUE)": by_uncertain_clusters,
    "gradients (BADGE)": by_gradients,
    "margin": by_margin,
    "coverage": by_coverage,
    "typicality (TypiClust)": by_typicality,
}


def _distances(rows: Floats, others: Floats) -> Floats:
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)[None] - 2 * rows @ others.T
    return np.sqrt(np.maximum(squares, 0))


@one_thread()
def compare(features: Floats, labels: Ints, *, first: int, more: int, repeats: int) -> dict[str, Floats]:
    """Accuracy and log loss of each method in each repeat, `(repeats, 2)`; `first` alone and `random` among them."""
    found: dict[str, list[tuple[float, float]]] = {}
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        test, begun, pool = _dealt(labels, first, rng)
        fit = _fitted(features, labels, begun)
        shares = fit.probabilities(features[pool])
        chosen = {"first photos alone": pool[:0], "random": rng.choice(pool, more, replace=False)}
        for name, method in METHODS.items():
            chosen[name] = pool[method(features[begun], features[pool], shares, more, repeat)]
        for name, photos in chosen.items():
            answers = _fitted(features, labels, np.concatenate([begun, photos])).probabilities(features[test])
            right = (answers.argmax(axis=1) == labels[test]).mean()
            found.setdefault(name, []).append((right, photo_log_losses(answers, labels[test]).mean()))
    return {name: np.array(scores) for name, scores in found.items()}


def _dealt(labels: Ints, first: int, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Photos to test on, the first ones with labels, and the others."""
    classes = labels.max() + 1
    test, begun, pool = [], [], []
    for label in range(classes):
        members = rng.permutation(np.flatnonzero(labels == label))
        held, each = round(len(members) / 3), first // classes
        test.append(members[:held])
        begun.append(members[held : held + each])
        pool.append(members[held + each :])
    return np.concatenate(test), np.concatenate(begun), np.concatenate(pool)


def _fitted(features: Floats, labels: Ints, rows: Ints) -> LinearFit:
    return fit_linear(features[rows], labels[rows], int(labels.max()) + 1, penalty=0.01, solver="logistic")


def _features(folder: Path) -> tuple[Floats, Ints]:
    progress = Progress()
    settings = [f"data.root='{folder}'", "data.source=folders", "data.otherwise=null", "data.audit.gate=off"]
    plan, _ = prepare("fast", settings=settings, progress=progress)
    index = build_index(list_photos(plan, progress), max_pixels=plan.config.data.max_photo_pixels)
    probe = open_probe(plan, index, progress)
    parts = [probe.split(split) for split in (TRAIN, VALID, TEST)]
    return np.concatenate([part[0] for part in parts]).astype(np.float64), np.concatenate([part[1] for part in parts])


def _interval(values: Floats) -> str:
    from scipy import stats

    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.4f} ({values.mean() - half:+.4f} to {values.mean() + half:+.4f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--first", type=int, default=20)
    parser.add_argument("--more", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    print(describe_machine())
    for folder in options.data:
        features, labels = _features(folder)
        scores = compare(features, labels, first=options.first, more=options.more, repeats=options.repeats)
        print(f"\n{folder.name}: {len(labels)} photos, {labels.max() + 1} classes; {options.repeats} repeats")
        random = scores["random"]
        for name, found in scores.items():
            means = f"{name:24} accuracy {found[:, 0].mean():.4f}  log loss {found[:, 1].mean():.4f}"
            if name == "random":
                print(means)
            else:
                accuracy, log_loss = map(_interval, (found - random).T)
                print(f"{means}  against random: accuracy {accuracy}, log loss {log_loss}")


if __name__ == "__main__":
    main()
