"""Processor seconds of what has to answer at once: `--help`, a configuration error, `doctor`.

    python benchmarks/bench_startup.py
    python benchmarks/bench_startup.py --check      # ends with 1 where one takes more than twice its bound

Processor seconds of the command and of what it waits for, each the least of several rounds.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

from common import BENCHMARKS, describe_machine, new_parser

#: Command → seconds that it may take.
BOUNDS_S = {"--help": 0.15, "run felidae4 --set nope=1": 0.25, "doctor": 3.0}


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--check", action="store_true", help="end with 1 where a command takes more than twice its bound"
    )
    asked = parser.parse_args()
    print(describe_machine(), file=sys.stderr)
    print("| command | processor seconds | wall seconds | bound |\n|---|---|---|---|")
    slow = []
    for command, bound_s in BOUNDS_S.items():
        _run(command)  # Python writes its bytecode once
        rounds = [_run(command) for _ in range(asked.rounds)]
        cpu_s, wall_s = min(cpu for cpu, _ in rounds), min(wall for _, wall in rounds)
        print(f"| `{command}` | {cpu_s:.2f} | {wall_s:.2f} | {bound_s} |", flush=True)
        if cpu_s > 2 * bound_s:
            slow.append(f"{command}: {cpu_s:.2f} s of processor time, more than twice {bound_s} s")
    if asked.check and slow:
        sys.exit("\n".join(slow))


def _run(command: str) -> tuple[float, float]:
    """Processor and wall seconds of one call; what it says and its exit code do not matter here."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started = _spent_s(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "finetunekit", *command.split()],
        env=variables,
        cwd=BENCHMARKS.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return _spent_s() - before, time.perf_counter() - started


def _spent_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
