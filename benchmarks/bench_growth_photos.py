"""How work on photos grows with their number: processor time a photo of each step, its peak memory, and the exponent from row to row.

    python benchmarks/bench_growth_photos.py [--sizes 1000,10000,100000] [--steps list,decode,audit,extract,solve] [--px 64]

Each step of each size is a process of its own, and its processor time is what counts on a busy machine. The steps:

- list: the folder's files, in train, valid and test folders of classes.
- decode: every photo hashed, decoded and measured, with an empty cache, in as many threads as there are processors.
- audit: all checks on photos that were measured before: duplicates and leaks are looked for among all pairs.
- extract: EfficientNet-Lite0's features, random weights, 32 px, written as shards, decoding included.
- solve: a logistic probe on drawn features, 1280 channels and ten classes, its penalty chosen by cross-validation.

An exponent of 1 means that each photo costs the same, whatever their number. Photos are drawn: no two alike, but a hundredth planted
copies (bench_audit.py); they are drawn once a size, before the first step. Scores and reports: bench_growth.py.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import describe_machine, growth_exponent, new_parser, run_child, stop_children_too

CHANNELS, CLASSES = 1280, 10
SHARD_PHOTOS = 1024


Cost = tuple[int, float]
"""Photos, and processor seconds of the step itself, imports and drawing left out."""


def list_photos(folder: Path) -> Cost:
    """The listing of the folder."""
    from finetunekit_builtin.folders import FoldersOptions, build_folders

    from finetunekit.types import SourceContext

    before = cpu_s()
    listing = build_folders(FoldersOptions(), SourceContext(folder / "photos", folder / "cache", 0, print))
    return len(listing.photos), cpu_s() - before


def decode_photos(folder: Path) -> Cost:
    """Photos measured; what is known of them stays in the cache."""
    from bench_audit import LIMIT, list_folder

    from finetunekit.data.known_photos import measure_photos, open_known_photos

    paths = [record.path for record in list_folder(folder / "photos").photos]
    before = cpu_s()
    with open_known_photos(print) as known:
        photos = len(measure_photos(paths, max_pixels=LIMIT, known=known).photos)
    return photos, cpu_s() - before


def audit_photos(folder: Path) -> Cost:
    """Every check but those that need a network."""
    import sklearn.model_selection
    import sklearn.tree
    from bench_audit import list_folder, look

    assert sklearn.model_selection
    assert sklearn.tree
    photos, before = len(list_folder(folder / "photos").photos), cpu_s()
    look(folder / "photos")
    return photos, cpu_s() - before


def extract_features(folder: Path) -> Cost:
    """Features as shards, from the first batch on, by when TensorFlow and the network are there."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from finetunekit.evaluation.shards.drive import write_shards
    from finetunekit.evaluation.shards.jobs import features_job
    from finetunekit.evaluation.shards.photos import labelled_photos
    from finetunekit.system.progress import Progress

    seen: list[tuple[int, float]] = []

    class Watched(Progress):
        """Notes when how many photos were done."""

        def counter(self, what: str) -> Callable[[int, int], None]:
            return lambda done, total: seen.append((done, cpu_s()))

    progress = Watched(is_quiet=True)
    photos = labelled_photos(str(folder / "photos"), (), progress, is_unlabelled=False)
    seen.clear()
    job = features_job("efficientnet_lite0", settings=["weights.mode=random", "pixels.size_px=32"], dtype="float16")
    rows = write_shards(job, photos, folder / "features", progress, shard_photos=SHARD_PHOTOS).rows
    first, last = seen[0], seen[-1]
    return rows, (last[1] - first[1]) * rows / (last[0] - first[0])


def solve_probe(folder: Path) -> Cost:
    """A probe on drawn features of as many photos as the folder is named after."""
    from finetunekit.models.linear_probe.cross_validation import Recipe, fit_chosen

    photos, generator = int(folder.name), np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, photos)
    features = generator.standard_normal(size=(photos, CHANNELS), dtype=np.float32)
    features += generator.normal(scale=0.08, size=(CLASSES, CHANNELS)).astype(np.float32)[labels]
    before = cpu_s()
    fit_chosen(features, labels, CLASSES, Recipe())
    return photos, cpu_s() - before


STEPS: dict[str, Callable[[Path], Cost]] = {
    "list": list_photos,
    "decode": decode_photos,
    "audit": audit_photos,
    "extract": extract_features,
    "solve": solve_probe,
}


def cpu_s() -> float:
    """Processor seconds of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def bench(asked: argparse.Namespace, scratch: Path) -> None:
    """A row for each step and size."""
    print("| step | photos | processor s | ms a photo | exponent | peak, MB |\n|---|---|---|---|---|---|")
    before: dict[str, Cost] = {}
    for size in asked.sizes:
        folder = scratch / str(size)
        folder.mkdir()
        command = [__file__, "--folder", str(folder), "--px", str(asked.px)]
        if set(asked.steps) != {"solve"}:
            run_child([*command, "--one", "draw"])
        for step in asked.steps:
            child = run_child([*command, "--one", step], {"FINETUNEKIT_CACHE": str(folder / "cache")})
            photos, seconds = child.report["photos"], child.report["cpu_s"]
            power = growth_exponent(before[step], (photos, seconds)) if step in before else None
            shown = "" if power is None else f"{power:.2f}"
            cells = f"{photos:,} | {seconds:.2f} | {1e3 * seconds / photos:.3f} | {shown}"
            print(f"| {step} | {cells} | {child.peak_bytes / 1e6:.0f} |", flush=True)
            before[step] = photos, seconds


def main() -> None:
    """Measure every step of every size, or one of them in this process."""
    parser = new_parser(__doc__)
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")], default=[1000, 10_000])
    parser.add_argument("--steps", type=lambda text: text.split(","), default=list(STEPS))
    parser.add_argument("--px", type=int, default=64, help="width of the drawn photos")
    parser.add_argument("--one", choices=["draw", *STEPS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one == "draw":
        from bench_audit import draw_photos

        draw_photos(asked.folder / "photos", int(asked.folder.name), asked.px)
        print(json.dumps({}))
    elif asked.one:
        photos, seconds = STEPS[asked.one](asked.folder)
        print(json.dumps({"photos": photos, "cpu_s": seconds}))
    else:
        stop_children_too()
        print(describe_machine(), file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="bench-growth-") as scratch:
            bench(asked, Path(scratch))


if __name__ == "__main__":
    main()
