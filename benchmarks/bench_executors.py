"""What several runs at a time gain on this machine, and whether they have the bits of runs that came one after the other.

    python benchmarks/bench_executors.py [--data DIR] [--seeds N] [--workers 1,2,4] [--epochs N] [--threads N]

Seeds of one configuration, VGG16 at 100 px from its fifth block on: by `local` in a process that has nothing else to do, then by
`processes` with so many workers. Each has an empty feature cache. Without --data on drawn felids. Ends with 1 where bits differ.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import describe_machine, new_parser

RECIPE = (
    "augment=[]",
    "train.draws_per_epoch=96",
    "train.validation_draws=24",
    "reports=[]",
    "insights={baselines: false, gradcam_photos: 0}",
    "data.audit.gate=off",
    "save.seeds=all",
)


def main() -> int:
    arguments = _arguments()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as scratch:
        reference = _run(arguments, Path(scratch), "local", {})
        is_same = True
        for workers in map(int, arguments.workers.split(",")):
            options = {"workers": workers, **({"threads": arguments.threads} if arguments.threads else {})}
            found = _run(arguments, Path(scratch), "processes", options)
            differing = [first for pair in zip(reference, found, strict=True) if (first := _first_difference(*pair))]
            print(
                f"  {'not the same: ' + differing[0] if differing else 'weights, history and predictions: the same bits'}"
            )
            is_same &= not differing
    return 0 if is_same else 1


def _arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder of photos; default: drawn felids")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int)
    found: argparse.Namespace = parser.parse_args()
    return found


def _first_difference(one: Path, other: Path) -> str | None:
    from finetunekit import FinishedRun
    from finetunekit.runs.reproducibility import compare_bits

    return compare_bits(FinishedRun(one), FinishedRun(other)).first


def _run(arguments: argparse.Namespace, scratch: Path, executor: str, options: dict[str, Any]) -> list[Path]:
    """Its run folders by seed."""
    name = ", ".join([executor, *(f"{value} {key}" for key, value in options.items())])
    recipe = [*RECIPE, f"stages[0].epochs={arguments.epochs}", f"executor={json.dumps({'name': executor, **options})}"]
    data = ["--data", str(arguments.data)] if arguments.data else []
    words = [sys.executable, "-m", "finetunekit", "run", *data, "--recipe" if data else "felidae4-exact"]
    command = [*words, *(["felidae4-exact"] if data else []), "--seeds", str(arguments.seeds), "--json", "--quiet"]
    settings = [part for text in recipe for part in ("--set", text)]
    cache, before = scratch / name / "cache", resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(
        [*command, *settings, "--out", str(scratch / name)],
        env=_environment(cache),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name:24}  {time.perf_counter() - started:6.1f} s, {cpu_s:6.1f} s of CPU time", flush=True)
    return [Path(path) for path in json.loads(done.stdout)["runs"]]


def _environment(cache: Path) -> dict[str, str]:

    from finetunekit.system.user_dirs import cache_dir

    cache.mkdir(parents=True)
    (cache / "weights").symlink_to(cache_dir() / "weights")
    return {**os.environ, "FINETUNEKIT_CACHE": str(cache), "FINETUNEKIT_STATE": str(cache / "state")}


if __name__ == "__main__":
    sys.exit(main())
