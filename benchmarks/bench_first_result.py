"""From `finetunekit run PHOTOS` to the probe's answer on the terminal, and to the end: wall and processor seconds, and peak memory.

    python benchmarks/bench_first_result.py PHOTOS [--recipe small-data] [--rounds 3]
    python benchmarks/bench_first_result.py PHOTOS --beside ../before/.venv/bin/python

Every run has a cache of its own that holds weights only: those of the user's cache, which `finetunekit weights fetch` fills. With
`--beside` another environment, such as one of an earlier version, takes turns with this one.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import describe_machine, new_parser, peak_bytes

from finetunekit.system.user_dirs import cache_dir

_ANSWER = re.compile(r"^solved ")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Times:
    """Of one run.

    Attributes:
        answer_s: Until the probe's answer.
        answer_cpu_s: Processor seconds until then.
        whole_s: Until its end.
        whole_cpu_s: Processor seconds until then.
        peak_mb: Largest resident memory of the process.
    """

    answer_s: float
    answer_cpu_s: float
    whole_s: float
    whole_cpu_s: float
    peak_mb: float


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--recipe", default="small-data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", action="append", default=[], metavar="PYTHON")
    asked = parser.parse_args()
    print(describe_machine(), file=sys.stderr)
    found: dict[str, list[Times]] = {python: [] for python in (sys.executable, *asked.beside)}
    for _ in range(asked.rounds):
        for python, times in found.items():
            times.append(run_once(python, asked.photos, asked.recipe))
            print(python, times[-1], file=sys.stderr, flush=True)
    print(
        "| python | answer, s | answer, processor s | whole, s | whole, processor s | peak, MB |\n|---|---|---|---|---|---|"
    )
    for python, times in found.items():
        cells = [statistics.median(getattr(one, name) for one in times) for name in Times.__slots__]
        print(f"| {python} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")


def run_once(python: str, photos: Path, recipe: str) -> Times:
    """One run in a process of its own.

    Raises:
        RuntimeError: If it fails, or gives no answer of a probe.
    """
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(cache_dir() / "weights", Path(folder, "cache", "weights"))
        variables = {"FINETUNEKIT_CACHE": f"{folder}/cache", "FINETUNEKIT_STATE": f"{folder}/state"}
        started = time.perf_counter()
        command = [
            python,
            "-m",
            "finetunekit",
            "run",
            str(photos.resolve()),
            "--recipe",
            recipe,
            "--out",
            f"{folder}/runs",
        ]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        answer: tuple[float, float] | None = None
        assert process.stderr is not None
        for line in process.stderr:
            if answer is None and _ANSWER.match(line):
                answer = time.perf_counter() - started, _spent_s(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        whole_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or answer is None:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}, answer {answer}")
    return Times(*answer, whole_s, usage.ru_utime + usage.ru_stime, peak_bytes(usage.ru_maxrss) / 1e6)


def _spent_s(pid: int) -> float:
    """Processor seconds of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    main()
