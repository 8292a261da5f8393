"""What it costs to write the features of many photos as shards, beside the forward pass alone.

    python benchmarks/bench_shards.py [--photos 1000,10000] [--px 224] [--size 224] [--shard-photos 1024] [--turns 3] [--no-kill]

Drawn JPEGs of `--px` pixels, no two files alike; EfficientNet-Lite0 with random weights at `--size` pixels. For each number of photos, in
a process of its own: the forward pass alone on batches that are in memory (`--turns` times, before and after), then `features`; and again
into another folder, where the process is killed by SIGKILL after two shards and the job taken up by another. Printed: photos a second of
both, seconds and CPU seconds a photo, memory of its own (RssAnon) when a quarter and when all of the photos were done, and whether the
folder of the killed job has the same bytes; `--no-kill` leaves that out. `plugins/ray/benchmarks/bench_lost_node.py` loses a whole node.

On a machine where others work, the rates follow what they leave. What share of the CPU time is the forward pass's says what share of its
rate is reached where all processors are busy with it. Ends with 1 if bytes differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_index import draw_photos
from bench_scale import read_status
from common import describe_machine, new_parser, run_child, stop_children_too

FORWARD_PHOTOS = 512


def features_job(size_px: int) -> Any:
    from finetunekit.evaluation.shards.jobs import features_job as make

    settings = ["weights.mode=random", f"pixels.size_px={size_px}"]
    return make("efficientnet_lite0", settings=settings, dtype="float16")


def write(folder: Path, out: Path, asked: argparse.Namespace, progress: Any) -> Any:
    from finetunekit.evaluation.shards.drive import write_shards
    from finetunekit.evaluation.shards.photos import labelled_photos

    photos = labelled_photos(str(folder / "photos"), (), progress, is_unlabelled=False)
    job = features_job(asked.size)
    return write_shards(job, photos, out, progress, shard_photos=asked.shard_photos)


def forward_costs(size_px: int, turns: int) -> list[tuple[float, float]]:
    """Photos a second, and CPU seconds a photo, of the network on standardised batches that are there; a pair a turn."""
    import numpy as np

    from finetunekit.evaluation.probe_features import load_backbone, pool_backbone
    from finetunekit.models.feature_cache import EXTRACTION_BATCH, Extractor
    from finetunekit.system.progress import Progress

    backbone, precision = load_backbone(features_job(size_px).plan(Progress(is_quiet=True)), Progress(is_quiet=True))
    extract = Extractor(pool_backbone(backbone, precision))
    batch = np.random.default_rng(0).random((EXTRACTION_BATCH, size_px, size_px, 3), np.float32)
    batches = [batch] * (FORWARD_PHOTOS // EXTRACTION_BATCH)
    list(extract(iter(batches[:4])))
    costs = []
    for _ in range(turns):
        started, cpu_started = time.perf_counter(), time.process_time()
        list(extract(iter(batches)))
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
        costs.append((FORWARD_PHOTOS / seconds, cpu_s / FORWARD_PHOTOS))
    return costs


def run_one(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Forward pass and shards in this process."""
    from finetunekit.system.progress import Progress

    class Watched(Progress):
        """Notes time and memory at every shard."""

        def __init__(self) -> None:
            super().__init__(is_quiet=not asked.verbose)
            self.seen: list[tuple[float, float, int]] = []

        def say(self, line: str) -> None:
            super().say(line)
            if " in " in line or line.startswith("shard "):  # the start, and each shard
                own = read_status(["RssAnon"])["RssAnon"]
                self.seen.append((time.perf_counter(), time.process_time(), own))

    costs, progress = forward_costs(asked.size, asked.turns), Watched()
    written = write(folder, folder / "whole", asked, progress)
    (start, cpu_start, _), (end, cpu_end, last) = progress.seen[0], progress.seen[-1]
    costs += forward_costs(asked.size, asked.turns)
    return {
        "photos": written.rows,
        "rate": written.rows / (end - start),
        "cpu_s": (cpu_end - cpu_start) / written.rows,
        "forward": [rate for rate, _ in costs],
        "forward_cpu_s": statistics.median(cpu_s for _, cpu_s in costs),
        "early_bytes": progress.seen[max(1, len(progress.seen) // 4)][2],
        "late_bytes": last,
        "shards": written.shards,
    }


def killed_and_resumed(folder: Path, asked: argparse.Namespace, command: list[str]) -> bool:
    """Whether a job that was killed after two shards comes to the same bytes as one that was not."""
    out = folder / "killed"
    child = subprocess.Popen([sys.executable, *command, "--into", str(out)], stderr=subprocess.DEVNULL)
    try:
        while child.poll() is None and len(list((out / "rows").glob("[!.]*"))) < 2:
            time.sleep(0.05)
        was_running = child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    there = len(list((out / "rows").glob("[!.]*")))
    run_child([*command, "--into", str(out)])
    same = digests(out) == digests(folder / "whole")
    print(f"  killed while running: {was_running}, after {there} shards; taken up to the same bytes: {same}")
    return same


def digests(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*.[pj]*") if not file.name.startswith("."))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def measure(photos: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Draw, measure, kill, take up, delete."""
    folder = Path(tempfile.mkdtemp(prefix="bench-shards-", dir=asked.folder))
    try:
        draw_photos(folder / "photos", photos, asked.px)
        command = [__file__, "--one", str(folder), "--size", str(asked.size), "--turns", str(asked.turns)]
        command += ["--shard-photos", str(asked.shard_photos), *(["--verbose"] if asked.verbose else [])]
        report = run_child(command, is_shown=asked.verbose).report
        print(describe(report), flush=True)
        report["is_same"] = asked.no_kill or killed_and_resumed(folder, asked, command)
        return report
    finally:
        shutil.rmtree(folder)


def describe(found: dict[str, Any]) -> str:
    """One number of photos."""
    alone = statistics.median(found["forward"])
    spread = f"{min(found['forward']):.0f} to {max(found['forward']):.0f}"
    return (
        f"{found['photos']:,} photos in {found['shards']} shards\n"
        f"  {found['rate']:.1f} photos/s; the forward pass alone {alone:.1f} ({spread}): {found['rate'] / alone:.0%} of it\n"
        f"  {1e3 / found['rate']:.2f} ms and {1e3 * found['cpu_s']:.2f} ms of CPU a photo; the forward pass alone "
        f"{1e3 * found['forward_cpu_s']:.2f} ms of CPU: {found['forward_cpu_s'] / found['cpu_s']:.0%} of it\n"
        f"  memory {found['early_bytes'] / 1e6:.0f} MB after a quarter, {found['late_bytes'] / 1e6:.0f} MB at the end"
    )


def main() -> None:
    """Measure each number of photos, and what a photo costs at the last beside the first."""
    parser = new_parser(__doc__)
    parser.add_argument("--photos", default="1000,10000", metavar="N,N")
    parser.add_argument("--px", type=int, default=224, help="side of the photos")
    parser.add_argument("--size", type=int, default=224, help="side of the network's input")
    parser.add_argument("--shard-photos", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3, help="of the forward pass alone, before and after")
    parser.add_argument(
        "--no-kill", action="store_true", help="do not make the features a second time, killed on the way"
    )
    parser.add_argument("--folder", type=Path, help="where photos and shards lie while it runs")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if asked.one and asked.into:
        from finetunekit.system.progress import Progress

        print(json.dumps({"rows": write(asked.one, asked.into, asked, Progress(is_quiet=True)).rows}))
    elif asked.one:
        print(json.dumps(run_one(asked.one, asked)))
    else:
        stop_children_too()
        print(describe_machine())
        found = [measure(int(photos), asked) for photos in asked.photos.split(",")]
        for one in found[1:]:
            print(
                f"{one['photos']:,} photos: {one['cpu_s'] / found[0]['cpu_s']:.2f} times the CPU time a photo of the first number"
            )
        if not all(one["is_same"] for one in found):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
