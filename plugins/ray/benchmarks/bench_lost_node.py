"""Features of very many small photos on a Ray cluster of two nodes, one of which is killed on the way; and what a photo costs.

    python plugins/ray/benchmarks/bench_lost_node.py [--photos 10240,102400,1024000] [--px 32] [--shard-photos 4096] [--folder DIR]

Drawn JPEGs of `--px` pixels, no two files alike; EfficientNet-Lite0 with random weights at `--px` pixels. For each number of photos:
features by one process of its own, as `benchmarks/bench_shards.py` measures it (CPU seconds a photo, memory when a quarter and when all of
the photos were done). Then those of the last number once more, on a cluster of this machine's own: a head that carries out nothing and two
nodes of a processor each. When a third of the shards is there, one node is killed with everything that runs on
it, by SIGKILL. Printed: what was said of it, and whether the folder has the bytes of the one that nothing happened to.

Everything stays in `--folder`, if one is given, and the same command takes up what is there. Ends with 1 if bytes differ.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

import bench_shards
from bench_index import draw_photos
from common import describe_machine, new_parser, run_child, stop_children_too


def measured_alone(folder: Path, photos: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Draw so many photos, and make their features in a process of its own."""
    report = folder / "report.json"
    if not (folder / "photos").is_dir():
        draw_photos(folder / "drawing", photos, asked.px)
        (folder / "drawing").rename(folder / "photos")
    if not report.is_file():
        shutil.rmtree(folder / "whole", ignore_errors=True)
        options = ["--size", str(asked.px), "--shard-photos", str(asked.shard_photos), "--turns", "2"]
        child = run_child([bench_shards.__file__, "--one", folder, *options, "--verbose"], is_shown=asked.verbose)
        report.write_text(json.dumps(child.report))
    return dict(json.loads(report.read_text()))


def on_two_nodes(folder: Path, photos: int, asked: argparse.Namespace) -> list[str]:
    """Features of photos on a cluster; what was said of jobs that were lost."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        shards = -(-photos // asked.shard_photos)
        threading.Thread(target=kill_at, args=(folder / "two-nodes", shards // 3, nodes[1]), daemon=True).start()
        return written(folder, cluster.address, asked)
    finally:
        cluster.shutdown()


def kill_at(out: Path, shards: int, node: Any) -> None:
    """Kill a node with everything that runs on it once so many shards are there; those that its job has made count."""
    while sum(1 for _ in out.glob("**/part-*.parquet")) < shards:
        time.sleep(1)
    raylet = node.all_processes["raylet"][0].process.pid
    for pid in [*descendants(raylet), raylet]:
        os.kill(pid, signal.SIGKILL)
    print(
        f"  killed a node of two with all of its processes, at {sum(1 for _ in out.glob('**/part-*.parquet'))} shards",
        flush=True,
    )


def descendants(pid: int) -> list[int]:
    """Of a process, the youngest first."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [one for child in children for one in (*descendants(child), child)]


def written(folder: Path, address: str, asked: argparse.Namespace) -> list[str]:
    """`features --on ray`."""
    from finetunekit.engine.shard_jobs import make_shards
    from finetunekit.evaluation.shards.drive import write_shards
    from finetunekit.evaluation.shards.photos import labelled_photos
    from finetunekit.system.progress import Progress

    class Heard(Progress):
        def __init__(self) -> None:
            super().__init__(is_quiet=not asked.verbose)
            self.lines: list[str] = []

        def say(self, line: str) -> None:
            super().say(line)
            self.lines.append(line)

    progress = Heard()
    settings = [f"executor={{name: ray, address: '{address}', cpus_per_run: 1}}"]
    root, job = str(folder / "photos"), bench_shards.features_job(asked.px)
    photos = labelled_photos(root, (), progress, is_unlabelled=False)
    make = make_shards(root, None, settings, progress)
    write_shards(job, photos, folder / "two-nodes", progress, shard_photos=asked.shard_photos, make=make)
    return [line for line in progress.lines if "lost" in line]


def main() -> None:
    """Measure each number of photos alone, then the last on two nodes."""
    parser = new_parser(__doc__)
    parser.add_argument("--photos", default="10240,102400,1024000", metavar="N,N")
    parser.add_argument("--px", type=int, default=32, help="side of the photos and of the network's input")
    parser.add_argument("--shard-photos", type=int, default=4096)
    parser.add_argument("--folder", type=Path, help="where photos and shards lie, and stay")
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    stop_children_too()
    print(describe_machine())
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="bench-lost-node-"))
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(number) for number in asked.photos.split(",")]
    try:
        found = []
        for number in numbers:
            found.append(measured_alone(folder / str(number), number, asked))
            print(bench_shards.describe(found[-1]))
            print(
                f"  {found[-1]['cpu_s'] / found[0]['cpu_s']:.2f} times the CPU time a photo of the first number",
                flush=True,
            )
        last, started = folder / str(numbers[-1]), time.perf_counter()
        said = on_two_nodes(last, numbers[-1], asked)
        print(*(f"  {line}" for line in said), sep="\n")
        is_same = bench_shards.digests(last / "two-nodes") == bench_shards.digests(last / "whole")
        print(
            f"  done after {time.perf_counter() - started:.0f} s; the bytes of one process that nothing happened to: {is_same}"
        )
    finally:
        if asked.folder is None:
            shutil.rmtree(folder)
    if not is_same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
