"""Features of very many small photos on a Ray cluster of two nodes, one of which is killed on the way; and what a photo costs.

    python plugins/ray/benchmarks/bench_lost_node.py [--photos 10240,102400,1000000] [--px 32] [--shard-photos 4096] [--folder DIR]

Drawn JPEGs of `--px` pixels, no two files alike; EfficientNet-Lite0 with random weights at `--px` pixels. For each number of photos but
the last: features by one process, as `benchmarks/bench_shards.py` measures it. For the last number: a cluster of this machine's own, a head
that carries out nothing and two nodes of a processor each. When a third of the shards is there, one node is killed with everything that
runs on it, by SIGKILL, and another one joins. Then the shards of its job are made again, in one process that nothing happens to, and
compared byte by byte; with `--whole`, so are all others.

CPU seconds a photo are those of making shards: without the start of processes, which is paid once a job, and with the command's own work
(names, records, checksums). Photos and shards stay in `--folder`, if one is given, and the same command takes up what is there. Ends with 1
if bytes differ.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

import bench_shards
from bench_index import draw_photos
from bench_scale import read_status
from common import describe_machine, new_parser, run_child, stop_children_too

TICKS = os.sysconf("SC_CLK_TCK")


def photos_of(folder: Path, photos: int, asked: argparse.Namespace) -> Path:
    """The folder with so many photos, drawn where they are not there yet."""
    if not (folder / "photos").is_dir():
        draw_photos(folder / "drawing", photos, asked.px)
        (folder / "drawing").rename(folder / "photos")
    return folder


def measured_alone(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Features by one process."""
    report = folder / "report.json"
    if not report.is_file():
        shutil.rmtree(folder / "whole", ignore_errors=True)
        options = ["--size", str(asked.px), "--shard-photos", str(asked.shard_photos), "--turns", "2", "--verbose"]
        child = run_child([bench_shards.__file__, "--one", folder, *options], is_shown=asked.verbose)
        report.write_text(json.dumps(child.report))
    return dict(json.loads(report.read_text()))


# ---- on a cluster ----------------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """What goes on below one process: how much CPU time processes that make shards take, and when a node is to be killed.

    Attributes:
        out: Where the shards go.
        address: Of the cluster.
        node: Of the cluster, that is killed.
        at: Number of shards that are there then.
        seen: Process → shards and CPU seconds, when its first shard was there and when it was seen last.
        folders: Process → the folder of its job.
        killed_at: Shards that were there when the node was killed; 0: it was not.
        third: The node that joins then.
        memory: Own memory of the asking process, second by second.
    """

    out: Path
    address: str
    node: Any
    at: int
    seen: dict[int, tuple[tuple[int, float], tuple[int, float]]] = field(default_factory=dict)
    folders: dict[int, Path] = field(default_factory=dict)
    killed_at: int = 0
    third: subprocess.Popen[bytes] | None = None
    memory: list[int] = field(default_factory=list)

    def go_on(self, is_over: threading.Event) -> None:
        """Look once a second."""
        while not is_over.wait(1.0):
            for pid in descendants(os.getpid()):
                self._look(pid)
            self.memory.append(read_status(["RssAnon"])["RssAnon"])
            there = sum(1 for _ in self.out.glob("**/part-*.parquet"))
            if not self.killed_at and there >= self.at:
                raylet = self.node.all_processes["raylet"][0].process.pid
                for pid in [*descendants(raylet), raylet]:
                    os.kill(pid, signal.SIGKILL)
                self.killed_at = there
                start = ["-m", "ray.scripts.scripts", "start", f"--address={self.address}", "--num-cpus=1", "--block"]
                self.third = subprocess.Popen(
                    [sys.executable, *start], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )

    def _look(self, pid: int) -> None:
        try:
            folder, stat = Path(os.readlink(f"/proc/{pid}/cwd")), Path(f"/proc/{pid}/stat").read_text()
        except OSError:  # it has ended
            return
        if (folder / "task.json").is_file():  # it begins in the folder of its job
            self.folders[pid] = folder
        made = sum(1 for _ in self.folders.get(pid, folder).glob("made/rows/part-*.parquet"))
        if made:
            user, system = stat.rpartition(")")[2].split()[11:13]
            now = made, (int(user) + int(system)) / TICKS
            self.seen[pid] = self.seen.get(pid, (now, now))[0], now

    def cpu_s(self, shard_photos: int) -> float:
        """CPU seconds a photo, of processes that made more than one shard."""
        shards, cpu_s = (sum(last[i] - first[i] for first, last in self.seen.values()) for i in (0, 1))
        return cpu_s / shards / shard_photos


def descendants(pid: int) -> list[int]:
    """Of a process, the youngest first."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return []
    return [one for child in children for one in (*descendants(child), child)]


def on_two_nodes(folder: Path, photos: int, asked: argparse.Namespace) -> list[int]:
    """Features of photos on a cluster, said with what it took; the shards of the job that was lost."""
    from ray.cluster_utils import Cluster

    out, started = folder / "two-nodes", time.perf_counter()
    head, is_over = {"num_cpus": 0, "include_dashboard": False}, threading.Event()
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        watch = Watch(out, cluster.address, nodes[1], -(-photos // asked.shard_photos) // 3)
        watcher = threading.Thread(target=watch.go_on, args=(is_over,))
        watcher.start()
        cpu_started = time.process_time()
        said = written(folder, cluster.address, asked)
        cpu_s = (time.process_time() - cpu_started) / photos
    finally:
        is_over.set()
        watcher.join()
        if watch.third is not None:
            watch.third.terminate()
            watch.third.wait()
        cluster.shutdown()
    lost = [line for line in said if "was lost" in line]
    making, whole = watch.cpu_s(asked.shard_photos), time.perf_counter() - started
    quarter = watch.memory[len(watch.memory) // 4]
    print(
        f"{photos:,} photos on two nodes, one killed at {watch.killed_at} shards and replaced: {whole:.0f} s\n"
        f"  {1e3 * making:.2f} ms of CPU a photo, and {1e3 * cpu_s:.3f} of the command's own\n"
        f"  memory of the command {quarter / 1e6:.0f} MB after a quarter, {watch.memory[-1] / 1e6:.0f} MB at the end\n"
        + "\n".join(f"  {line}" for line in lost),
        flush=True,
    )
    numbers = [list(map(int, re.findall(r"\d+", line.partition(":")[0]))) for line in lost]
    return [number for one in numbers for number in range(one[0], one[-1] + 1)]


def written(folder: Path, address: str, asked: argparse.Namespace) -> list[str]:
    """`features --on ray`; what was said."""
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
    root, job = str(folder / "photos"), bench_shards.features_job(asked.px)
    photos = labelled_photos(root, (), progress, is_unlabelled=False)
    make = make_shards(root, None, [f"executor={{name: ray, address: '{address}', cpus_per_run: 1}}"], progress)
    write_shards(job, photos, folder / "two-nodes", progress, shard_photos=asked.shard_photos, make=make)
    return progress.lines


# ---- the same bytes --------------------------------------------------------------------------------------------------------------


def made_again(folder: Path, numbers: list[int], asked: argparse.Namespace) -> bool:
    """Whether shards that this process makes have the checksums of those that the cluster made."""
    from finetunekit.evaluation.shards.drive import Making, make_here
    from finetunekit.evaluation.shards.photos import labelled_photos
    from finetunekit.evaluation.shards.work import Shard
    from finetunekit.system.progress import Progress
    from finetunekit.system.shard_folder import ShardFolder

    progress, size = Progress(is_quiet=not asked.verbose), asked.shard_photos
    photos = labelled_photos(str(folder / "photos"), (), progress, is_unlabelled=False)
    shards = [Shard(number, tuple(photos[number * size : (number + 1) * size])) for number in numbers]
    known = ShardFolder(folder / "two-nodes").whole(print)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        making = Making(bench_shards.features_job(asked.px), shards, ShardFolder(Path(scratch)), {}, progress)
        different = [one.shard for one in make_here(making) if one.sha256 != known[one.shard].sha256]
    print(
        f"  {len(shards)} of {len(known)} shards made again, undisturbed: {len(different)} with other bytes", flush=True
    )
    return not different


def main() -> None:
    """Measure each number of photos."""
    parser = new_parser(__doc__)
    parser.add_argument("--photos", default="10240,102400,1000000", metavar="N,N")
    parser.add_argument("--px", type=int, default=32, help="side of the photos and of the network's input")
    parser.add_argument("--shard-photos", type=int, default=4096)
    parser.add_argument("--folder", type=Path, help="where photos and shards lie, and stay")
    parser.add_argument("--whole", action="store_true", help="compare all shards, not only those that were lost")
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    stop_children_too()
    print(describe_machine(), flush=True)
    base = asked.folder or Path(tempfile.mkdtemp(prefix="bench-lost-node-"))
    *smaller, largest = map(int, asked.photos.split(","))
    try:
        for number in smaller:
            print(
                bench_shards.describe(measured_alone(photos_of(base / f"{number}", number, asked), asked)), flush=True
            )
        folder = photos_of(base / f"{largest}", largest, asked)
        lost = on_two_nodes(folder, largest, asked)
        is_same = made_again(folder, list(range(-(-largest // asked.shard_photos))) if asked.whole else lost, asked)
    finally:
        if asked.folder is None:
            shutil.rmtree(base)
    if not is_same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
