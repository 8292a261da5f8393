"""What it changes, and costs, that several devices share each batch of a fine-tune; without GPUs the processor is divided into devices.

    python benchmarks/bench_devices.py [--data DIR] [--preset felidae4-exact] [--devices 2,4] [--set KEY=VALUE …]

A run on one device, then one on each number of devices, all with the same seed. Printed are the largest difference of a weight, of an
epoch's loss and of a probability from those of the run on one device, and the time of the epochs. Without --data on drawn felids. Ends
with 1 where a probability differs by more than 0.001.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import describe_machine, new_parser

RECIPE = ("reports=[]", "insights={baselines: false, gradcam_photos: 0}", "data.audit.gate=off")


def main() -> int:
    arguments = _arguments()
    print(describe_machine())
    counts = [int(text) for text in arguments.devices.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        one = _run(arguments, Path(scratch), 1, max(counts))
        largest = [_compare(one, _run(arguments, Path(scratch), count, max(counts))) for count in counts]
    return 0 if max(largest) <= 1e-3 else 1


def _arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder of photos; default: drawn felids")
    parser.add_argument("--preset", default="felidae4-exact")
    parser.add_argument("--devices", default="2,4")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    found: argparse.Namespace = parser.parse_args()
    return found


def _run(arguments: argparse.Namespace, scratch: Path, devices: int, parts: int) -> Path:
    """The folder of a run on so many devices."""
    from finetunekit import FinishedRun

    data = [str(arguments.data), "--recipe"] if arguments.data else []
    settings = [part for text in (*RECIPE, *arguments.settings, f"train.devices={devices}") for part in ("--set", text)]
    command = [sys.executable, "-m", "finetunekit", "run", *data, arguments.preset, *settings, "--json", "--quiet"]
    done = subprocess.run(
        [*command, "--out", str(scratch / str(devices))],
        env={**os.environ, "FINETUNEKIT_CPU_DEVICES": str(parts), "FINETUNEKIT_STATE": str(scratch / "state")},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    path = Path(json.loads(done.stdout)["path"])
    epochs = FinishedRun(path).epochs
    print(
        f"{devices} device{'s' if devices > 1 else ''}: {sum(float(row['seconds']) for row in epochs):6.1f} s",
        flush=True,
    )
    return path


def _compare(one: Path, other: Path) -> float:
    """Print the differences; the largest of a probability."""
    from finetunekit import FinishedRun
    from finetunekit.runs.folder import MODEL
    from finetunekit.runs.reproducibility import compare_bits
    from finetunekit.system.array_files import read_arrays

    weights = [read_arrays(path / MODEL)[1] for path in (one, other)]
    weight = max(float(np.abs(array - weights[1][name]).max()) for name, array in weights[0].items() if array.size)
    runs = [FinishedRun(path) for path in (one, other)]
    losses = [[float(row["loss"]) for row in run.epochs] for run in runs]
    loss = max(abs(a - b) / a for a, b in zip(*losses, strict=True))
    probability = compare_bits(*runs).largest
    print(
        f"  largest difference of a weight {weight:.1e}, of a loss {loss:.1e} of it, of a probability {probability:.1e}"
    )
    return probability


if __name__ == "__main__":
    sys.exit(main())
