"""How long a folder of many photos takes to be listed, indexed, and indexed again, and how much memory that takes.

    python benchmarks/bench_index.py [--photos N] [--size PX] [--folder DIR]

Small drawn JPEGs, no two alike, in train, valid and test folders of ten classes. Each step is a process of its own: the list of files
alone; the index with an empty cache, for which every photo is hashed and decoded; the index again, for which no photo is opened. CPU
seconds are what counts on a busy machine. The last line is the ratio of the two.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import new_parser

CLASSES = 10
PATTERNS = 256
SPLITS = {"train": 0.6, "valid": 0.2, "test": 0.2}
SETTLED_S = 2.5
"""Files younger than two seconds are not remembered."""


def draw_photos(root: Path, photos: int, size_px: int) -> None:
    """Write the photos: a few hundred patterns, each file with a comment of its own."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    bodies = []
    for _ in range(PATTERNS):
        stream = io.BytesIO()
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8))
        coarse.resize((size_px, size_px), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
        bodies.append(stream.getvalue())
    number = 0
    for split, share in SPLITS.items():
        for label in range(CLASSES):
            folder = root / split / f"class-{label}"
            folder.mkdir(parents=True)
            for _ in range(round(photos * share / CLASSES)):
                body = bodies[number % PATTERNS]
                comment = f"photo {number}".encode()
                marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
                (folder / f"{number:07d}.jpg").write_bytes(body[:2] + marker + body[2:])
                number += 1


def step(name: str, root: Path, cache: Path) -> dict[str, float]:
    """One step in this process: seconds, photos, peak memory in MB beyond what Python and its imports take."""
    from finetunekit_builtin.folders import FoldersOptions, build_folders

    from finetunekit.data.index import build_index
    from finetunekit.data.known_photos import open_known_photos
    from finetunekit.types import SourceContext

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu_started = time.perf_counter(), time.process_time()
    listing = build_folders(FoldersOptions(), SourceContext(root, cache, 0, print))
    if name != "list":
        os.environ["FINETUNEKIT_CACHE"] = str(cache)
        with open_known_photos(print) as known:
            build_index(listing, max_pixels=10**8, known=known)
    seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "photos": len(listing.photos),
        "more_mb": (peak - before) / 1024,
        "peak_mb": peak / 1024,
    }


def run_step(name: str, root: Path, cache: Path) -> dict[str, float]:
    """One step in a process of its own."""
    command = [sys.executable, __file__, "--step", name, "--folder", str(root), "--cache", str(cache)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def bench(root: Path, cache: Path) -> None:
    """Print a row a step, and the ratio."""
    rows = {}
    for name, title in (("list", "list files"), ("index", "index, first time"), ("index", "index, again")):
        rows[title] = found = run_step(name, root, cache)
        rate = found["photos"] / found["seconds"]
        print(
            f"{title:18} {found['seconds']:7.1f} s ({found['cpu_s']:.1f} s CPU)  {rate:7,.0f} photos/s  peak {found['peak_mb']:.0f} MB"
            f" ({1e6 * found['more_mb'] / found['photos']:5.0f} bytes a photo)",
            flush=True,
        )
    first, again = rows["index, first time"]["seconds"], rows["index, again"]["seconds"]
    print(
        f"{found['photos']:,.0f} photos, {os.cpu_count()} CPUs: the first index takes {first / again:.1f} times as long as the next"
    )


def main() -> None:
    """Draw the photos in a temporary folder, or take one that is there, and bench it."""
    parser = new_parser(__doc__)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64, metavar="PX")
    parser.add_argument("--folder", type=Path, help="photos in split/class folders, instead of drawn ones")
    parser.add_argument("--step", choices=["list", "index"], help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options.step, options.folder, options.cache)))
        return
    with tempfile.TemporaryDirectory(prefix="bench-index-") as scratch:
        root = options.folder or Path(scratch) / "photos"
        if options.folder is None:
            draw_photos(root, options.photos, options.size)
            time.sleep(SETTLED_S)
        bench(root, Path(scratch) / "cache")


if __name__ == "__main__":
    main()
