"""`predict`: the whole command on a few photos, and photos a second beside the network's own forward pass.

    python benchmarks/bench_predict.py RUN PHOTOS [--photos 20] [--many 1000] [--rounds 3]

The first part runs the command with the first photos of PHOTOS, in a process of its own. The second loads RUN once and takes turns between
`predict`, which reads and decodes files, and the forward pass alone on pixels that are in memory.
"""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from common import describe_machine, new_parser, show_spread

from finetunekit.data.photo_paths import find_photos

_BATCHES = 4


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path, metavar="PHOTOS")
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(describe_machine(), file=sys.stderr)
    found = find_photos([asked.folder])
    few = list(itertools.islice(itertools.cycle(found), asked.photos))
    rounds = [_time_command([str(asked.run), *map(str, few)]) for _ in range(asked.rounds)]
    wall, cpu = zip(*rounds, strict=True)
    print(f"predict, {asked.photos} photos: {show_spread(wall)} s, {show_spread(cpu)} s of processor time")
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


def _time_command(arguments: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of one `predict`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "finetunekit", "predict", *arguments]
    wall_s = _timed(lambda: subprocess.run(command, capture_output=True, check=True))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
