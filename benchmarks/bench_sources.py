"""What probes lose on sources that they were not trained on: features of one network and of two, of two sizes, brought to one length.

    python benchmarks/bench_sources.py --data DIR --sources FILE.tsv [--only NAME ...]

--sources names the source of each photo in its columns `file` (its path below the folder of FILE) and `source_repo`. Each source without
which every class still has photos is left out in turn: the probe is solved on the photos of the others, as `run --leave-out each` solves
it, and asked about the photos of that source. Photos pass through each network once.

Contestants are told apart on the photos left out, all sources together: right with a Wilson interval, log loss, and its difference from the
first contestant with a bootstrap-t interval over photos.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench_probe import Probe, of_length_one
from common import describe_machine, new_parser
from numpy.typing import NDArray

from finetunekit.models.linear_probe.cross_validation import Recipe, fit_chosen
from finetunekit.statistics import mean_interval, photo_log_losses, wilson_interval
from finetunekit.system.threads import one_thread

Features = NDArray[np.float32]


def as_they_are(features: Features) -> Features:
    """No normalisation but that of each channel, which every probe begins with."""
    return features


def square_roots(features: Features) -> Features:
    """Roots with their signs, which bring large values closer; then of length one (Perronnin et al. 2010, ECCV, section 3)."""
    return of_length_one(np.asarray(np.sign(features) * np.sqrt(np.abs(features)), np.float32))


@dataclass(frozen=True, slots=True)
class Contestant:
    """Features side by side.

    Attributes:
        parts: Names of probes whose features are joined.
        normalise: Applied to each part.
        joined: Applied to all parts together.
    """

    parts: tuple[str, ...]
    normalise: Callable[[Features], Features] = as_they_are
    joined: Callable[[Features], Features] = as_they_are


#: Name → preset and settings.
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "lite0": ("fast", ()),
    "lite0-160": ("fast", ("pixels.size_px=160",)),
    "lite0-320": ("fast", ("pixels.size_px=320",)),
    "lite0-whole": ("fast", ("pixels.crop_pct=1",)),
    "lite2": ("fast", ("backbone={name: efficientnet_lite2}", "pixels.size_px=260")),
    "lite2-whole": ("fast", ("backbone={name: efficientnet_lite2}", "pixels.size_px=260", "pixels.crop_pct=1")),
}
CONTESTANTS: dict[str, Contestant] = {
    "Lite0 and Lite2 (small-data)": Contestant(("lite0", "lite2")),
    "Lite0 (fast)": Contestant(("lite0",)),
    "Lite2": Contestant(("lite2",)),
    "Lite0 at 224 and 160 px": Contestant(("lite0", "lite0-160")),
    "Lite0 at 224 and 320 px": Contestant(("lite0", "lite0-320")),
    "Lite0 and Lite2, crop and whole": Contestant(("lite0", "lite2", "lite0-whole", "lite2-whole")),
    "Lite0, Lite2, Lite0 at 160 and 320": Contestant(("lite0", "lite2", "lite0-160", "lite0-320")),
    "Lite0, of length one": Contestant(("lite0",), of_length_one),
    "Lite0 and Lite2, each of length one": Contestant(("lite0", "lite2"), of_length_one),
    "Lite0 and Lite2, joined to length one": Contestant(("lite0", "lite2"), joined=of_length_one),
    "Lite2, of length one": Contestant(("lite2",), of_length_one),
    "Lite0 and Lite2, square roots": Contestant(("lite0", "lite2"), square_roots),
}


def read_sources(table: Path) -> dict[Path, str]:
    """Photo → its source."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {(table.parent / row["file"]).resolve(): row["source_repo"] for row in rows}


def can_be_left_out(labels: NDArray[np.int64], inside: NDArray[np.bool_]) -> bool:
    """Whether every class has photos in the other sources."""
    return len(np.unique(labels[~inside])) == len(np.unique(labels))


def ask(
    contestant: Contestant, probes: Mapping[str, Probe], train: NDArray[np.bool_], groups: Sequence[str]
) -> NDArray[np.float64]:
    """Solve on some photos, and answer the others, `(photos, classes)`: photo and mirror image both times."""
    one = next(iter(probes.values()))
    looks = [
        contestant.joined(
            np.concatenate([contestant.normalise(getattr(probes[part], look)) for part in contestant.parts], axis=1)
        )
        for look in ("features", "mirrored")
    ]
    recipe = Recipe(one.stage.solver, one.stage.penalty, one.stage.folds, repeats=one.stage.repeats, views=len(looks))
    names = [group for group, is_inside in zip(groups, train, strict=True) if is_inside] * len(looks)
    rows = np.concatenate([look[train] for look in looks])
    with one_thread():
        fit, _ = fit_chosen(rows, np.tile(one.labels[train], len(looks)), one.classes, recipe, groups=names)
    shares: NDArray[np.float64] = np.mean([fit.probabilities(look[~train]) for look in looks], axis=0)
    return shares


def show(name: str, shares: NDArray[np.float64], labels: NDArray[np.int64], first: NDArray[np.float64]) -> str:
    """One line."""
    losses, right = photo_log_losses(shares, labels), int((shares.argmax(axis=1) == labels).sum())
    interval, difference = wilson_interval(right, len(labels)), losses - first
    beside = ""
    if difference.any():
        change = mean_interval(difference)
        beside = f"   {difference.mean():+.4f} ({change.low:+.4f} to {change.high:+.4f})"
    ends = f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %"
    return f"  {name:36} right {right}/{len(labels)} ({ends})   log loss {losses.mean():.4f}{beside}"


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders, with or without splits")
    parser.add_argument("--only", metavar="NAME", action="append", help="these contestants only, the first among them")
    parser.add_argument("--sources", type=Path, required=True, help="table of the photos' sources, separated by tabs")
    asked = parser.parse_args()
    print(describe_machine(), flush=True)
    wanted = dict.fromkeys(part for name in asked.only or CONTESTANTS for part in CONTESTANTS[name].parts)
    probes = {name: Probe(asked.data.resolve(), *PARTS[name]) for name in wanted}
    one, known = next(iter(probes.values())), read_sources(asked.sources)
    sources = np.array([known[path] for path in one.row])
    left_out = [s for s in np.unique(sources) if can_be_left_out(one.labels, sources == s)]
    for source in left_out:
        print(f"  left out: {source}, {int((sources == source).sum())} photos")
    labels = np.concatenate([one.labels[sources == source] for source in left_out])
    first = np.zeros(0)
    for name in asked.only or CONTESTANTS:
        contestant = CONTESTANTS[name]
        answers = [ask(contestant, probes, sources != source, sources.tolist()) for source in left_out]
        shares = np.concatenate(answers)
        first = first if len(first) else photo_log_losses(shares, labels)
        print(show(name, shares, labels, first), flush=True)


if __name__ == "__main__":
    main()
