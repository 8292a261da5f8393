"""`predict`: the whole command on a few photos, and photos a second beside the network's own forward pass.

    python benchmarks/bench_predict.py RUN PHOTOS [--photos 20] [--many 1000] [--rounds 3]
    python benchmarks/bench_predict.py RUN PHOTOS --runtime onnx --runtime litert [--photos 20] [--rounds 3]

The first part runs the command with the first photos of PHOTOS, in a process of its own. The second loads RUN once and takes turns between
`predict`, which reads and decodes files, and the forward pass alone on pixels that are in memory. With `--runtime` the command asks what
RUN was exported to, one runtime after the other in each round, and the second part is left out.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from common import describe_machine, new_parser, peak_bytes, show_spread

from finetunekit.data.photo_paths import find_photos

_BATCHES = 4


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path, metavar="PHOTOS")
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runtime", action="append", default=[], metavar="NAME")
    asked = parser.parse_args()
    print(describe_machine(), file=sys.stderr)
    found = find_photos([asked.folder])
    few = list(itertools.islice(itertools.cycle(found), asked.photos))
    ways = {f"predict --runtime {name}": ["--runtime", name] for name in asked.runtime} or {"predict": []}
    rounds = [
        [_time_command([str(asked.run), *map(str, few), *options]) for options in ways.values()]
        for _ in range(asked.rounds)
    ]
    for way, times in zip(ways, zip(*rounds, strict=True), strict=True):
        wall, cpu, peak = zip(*times, strict=True)
        print(
            f"{way}, {asked.photos} photos: {show_spread(wall)} s, {show_spread(cpu)} s of processor time, "
            f"{max(peak):.0f} MB"
        )
    if not asked.runtime:
        measure_rates(asked.run, list(itertools.islice(itertools.cycle(found), asked.many)), asked.rounds)


def measure_rates(run: Path, paths: list[Path], rounds: int) -> None:
    """Print how fast files are predicted, and by how much the network alone is faster."""
    from finetunekit.evaluation.predictor import load

    loaded = load(run)
    squares = loaded.squares(paths[: 64 * _BATCHES])
    loaded.ask(squares[:16])
    ratios, rates = [], []
    for _ in range(rounds):
        own = len(squares) / _timed(lambda: loaded.ask(squares))
        rates.append(len(paths) / _timed(lambda: loaded.predict(paths)))
        ratios.append(100 * rates[-1] / own)
    print(
        f"predict, {len(paths)} photos: {show_spread(rates)} photos/s, {show_spread(ratios, 0)} % of the forward pass"
    )


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _time_command(arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and largest resident memory in MB of one `predict`.

    Raises:
        RuntimeError: If it fails.
    """
    command, started = [sys.executable, "-m", "finetunekit", "predict", *arguments], time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s, process.returncode = time.perf_counter() - started, os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return wall_s, usage.ru_utime + usage.ru_stime, peak_bytes(usage.ru_maxrss) / 1e6


if __name__ == "__main__":
    main()
