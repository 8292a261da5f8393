"""Logistic regression on features that stay on disk: time, memory, and how far its answers are from those of the solver in memory.

    python benchmarks/bench_streamed.py [--photos 1000000] [--channels 1280] [--classes 10] [--penalty 1e-4] [--memory 8] [--beside 20000]

Drawn features as float16, of classes that overlap, are written as shards as `finetunekit features` writes them, read back against their
checksums and fitted. The process is told that it may use `--memory` GiB (`FINETUNEKIT_MEMORY_GB`) and is not held to it, so that what it
takes can be seen: memory of its own (RssAnon), sampled ten times a second; pages of mapped files, which the system takes back when it needs
them, come in the second figure. Then `--beside` of the rows are fitted from disk and in memory, and both fits asked about the same rows.
Ends with 1 if the memory is over the bound.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_scale import Peak
from common import describe_machine, new_parser, run_child, stop_children_too

SHARD_ROWS = 4096


def write_shards(folder: Path, photos: int, channels: int, classes: int) -> None:
    """Features of no photos, in the form of those of photos."""
    import numpy as np
    import pyarrow as pa

    from finetunekit.system.parquet import parquet_bytes
    from finetunekit.system.shard_folder import ShardFolder, ShardRecord

    generator, kept = np.random.default_rng(0), ShardFolder(folder)
    centres = generator.normal(0, 0.06, (classes, channels)).astype(np.float32)
    level = generator.random(channels, np.float32)
    network = {"channels": channels, "weights_bytes": 0}
    pixels = {"size_px": 224, "contract": "backbone", "fit": "crop", "crop_pct": 0.875}
    kept.begin(
        {"kind": "features", "backbone": "drawn", "dtype": "float16", "photos": photos, "network": network}
        | {"pixels": pixels}
    )
    for number, start in enumerate(range(0, photos, SHARD_ROWS)):
        rows = min(SHARD_ROWS, photos - start)
        labels = generator.integers(0, classes, rows)
        values = level + centres[labels] + 0.8 * generator.standard_normal((rows, channels), np.float32)
        np.maximum(values, 0, out=values)
        names = [f"{start + row:064x}" for row in range(rows)]
        table = pa.table(
            {
                "path": names,
                "sha256": names,
                "label": [f"class {label}" for label in labels],
                "split": pa.array(["train"] * rows),
                "group": pa.array([None] * rows, pa.string()),
                "features": pa.FixedSizeListArray.from_arrays(
                    pa.array(values.astype(np.float16).reshape(-1)), channels
                ),
            }
        )
        sha256 = kept.keep(number, {"rows": parquet_bytes(table, ("label", "split"))})
        kept.record(ShardRecord(number, rows, 0, sha256, "here"))


def run_one(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Read and fit in this process."""
    peak = Peak()
    import numpy as np

    from finetunekit.models.feature_shards import open_feature_shards
    from finetunekit.models.linear_probe.linear import fit_linear
    from finetunekit.models.linear_probe.streamed import FeatureRows
    from finetunekit.statistics import photo_log_losses
    from finetunekit.system.progress import Progress

    class Counted(Progress):
        """Counts passes."""

        passes = 0

        def show(self, what: str, done: int = 0, total: int | None = None, left_s: float | None = None) -> None:
            self.passes += what.startswith("pass ")

    progress, started = Counted(is_quiet=True), time.perf_counter()
    shards = open_feature_shards(str(folder), progress)
    read_s = time.perf_counter() - started
    classes, labels = np.unique(np.array(shards.label), return_inverse=True)
    rows, started, cpu_started = np.arange(len(labels)), time.perf_counter(), time.process_time()
    features = FeatureRows(shards.values, rows, progress.show)
    fit = fit_linear(features, labels, len(classes), penalty=asked.penalty, solver="logistic")
    fit_s, fit_cpu_s, passes, at_fit = (
        time.perf_counter() - started,
        time.process_time() - cpu_started,
        progress.passes,
        dict(peak.largest),
    )
    log_loss = float(photo_log_losses(fit.probabilities(features[rows < 50_000]), labels[:50_000]).mean())
    few = np.arange(min(asked.beside, len(labels)))
    from_disk = fit_linear(features[few], labels[few], len(classes), penalty=asked.penalty, solver="logistic")
    values = np.asarray(shards.values[: len(few)], np.float32)
    in_memory = fit_linear(values, labels[few], len(classes), penalty=asked.penalty, solver="logistic")
    one, other = from_disk.probabilities(values), in_memory.probabilities(values)
    losses = [float(photo_log_losses(found, labels[few]).mean()) for found in (one, other)]
    return {
        "rows": len(labels),
        "channels": shards.values.shape[1],
        "is_mapped": isinstance(shards.values.base, np.memmap) or isinstance(shards.values, np.memmap),
        "read_s": read_s,
        "fit_s": fit_s,
        "fit_cpu_s": fit_cpu_s,
        "passes": passes,
        "own_bytes": at_fit["RssAnon"],
        "all_bytes": at_fit["VmHWM"],
        "log_loss": log_loss,
        "beside": len(few),
        "probabilities_apart": float(np.abs(one - other).max()),
        "losses": losses,
    }


def describe(found: dict[str, Any]) -> str:
    """What it took, and what came out."""
    where = "on disk" if found["is_mapped"] else "in memory"
    return (
        f"{found['rows']:,} rows of {found['channels']:,} float16, {where}; read and checked in {found['read_s']:.0f} s\n"
        f"  fitted in {found['fit_s']:.0f} s, {found['fit_cpu_s']:.0f} s of CPU, {found['passes']} passes; "
        f"log loss of the first 50,000 {found['log_loss']:.4f}\n"
        f"  memory of its own {found['own_bytes'] / 1e9:.2f} GB; {found['all_bytes'] / 1e9:.2f} GB with mapped files\n"
        f"  {found['beside']:,} of them from disk and in memory: probabilities at most {found['probabilities_apart']:.1e} "
        f"apart, log loss {found['losses'][0]:.7f} and {found['losses'][1]:.7f}"
    )


def main() -> None:
    """Write, measure in a child, delete."""
    parser = new_parser(__doc__)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--penalty", type=float, default=1e-4)
    parser.add_argument("--memory", type=float, default=8.0, metavar="GB", help="GiB that the fit may use")
    parser.add_argument("--beside", type=int, default=20_000, help="rows that are also fitted in memory")
    parser.add_argument("--folder", type=Path, help="where the shards lie while it runs")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_one(asked.one, asked)))
        return
    stop_children_too()
    print(describe_machine())
    folder = Path(tempfile.mkdtemp(prefix="bench-streamed-", dir=asked.folder))
    try:
        write_shards(folder / "shards", asked.photos, asked.channels, asked.classes)
        command = [__file__, "--one", folder / "shards", "--penalty", str(asked.penalty), "--beside", str(asked.beside)]
        found = run_child(command, {"FINETUNEKIT_MEMORY_GB": str(asked.memory)}).report
    finally:
        shutil.rmtree(folder)
    print(describe(found))
    if found["own_bytes"] > asked.memory * (1 << 30):
        raise SystemExit("over the bound")


if __name__ == "__main__":
    main()
