"""How much memory a whole run takes with many photos: is it within a bound, and what does a photo cost?

    python benchmarks/bench_scale.py [--photos 2000,10000] [--size PX] [--memory GB] [--audit]

Small drawn JPEGs, no two alike, in train, valid and test folders of ten classes. Each number of photos is one run in a process of its
own: index, audit (with --audit), decoding, a solve stage on frozen EfficientNet-Lite0 features, a training stage from a bank of two
views, scores, baselines, report. The process is told that it may use so much memory (`FINETUNEKIT_MEMORY_GB`) and is not held to it, so
that what it takes can be seen. Weights are random: what is measured does not depend on them.

Peak memory is what belongs to the process alone (RssAnon), sampled ten times a second: pages of mapped files, which the system takes
back when it needs them, are counted only in the second figure. Ends with 1 if a peak is over the bound.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bench_index import SETTLED_S, draw_photos
from common import describe_machine, new_parser, run_child, stop_children_too

SAMPLE_S = 0.1
PHOTO_PX = 64
PRESET: dict[str, Any] = {
    "name": "scale",
    "backbone": {"name": "efficientnet_lite0"},
    "weights": {"mode": "random"},
    "head": {"name": "linear"},
    "augment": [{"name": "flip"}],
    "cache": {"mode": "bank", "views": 2},
    "train": {"batch_size": 64},
    "stages": [
        {"kind": "solve", "name": "probe", "penalty": 1.0},
        {
            "name": "tune",
            "epochs": 1,
            "freeze": {"name": "all"},
            "optimizer": {"name": "sgd", "learning_rate": 1e-3, "momentum": 0.9},
        },
    ],
    "reports": [{"name": "learning_curves"}, {"name": "html"}],
}


class Peak:
    """The largest values of `/proc/self/status` since the start, sampled by a thread."""

    def __init__(self) -> None:
        self.largest = {"RssAnon": 0, "VmHWM": 0}
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            found = read_status(self.largest)
            self.largest = {name: max(value, found[name]) for name, value in self.largest.items()}
            time.sleep(SAMPLE_S)


def read_status(names: Collection[str]) -> dict[str, int]:
    """Values of `/proc/self/status` in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.split(":")[0] in names}


def run_one(root: Path, folder: Path, size_px: int, *, is_audited: bool) -> dict[str, Any]:
    """One run in this process, and its peaks."""
    peak = Peak()
    import finetunekit as ftk
    from finetunekit.config.planning import prepare
    from finetunekit.config.yaml_source import dump_yaml
    from finetunekit.system.progress import Progress
    from finetunekit.system.resource_check import network_budget

    class Weighed(Progress):
        """Each line begins with the memory that the process takes now and has taken at most."""

        def say(self, line: str) -> None:
            now = read_status(["RssAnon"])["RssAnon"]
            super().say(
                f"[{now / 1e6:5.0f} of {peak.largest['RssAnon'] / 1e6:5.0f} MB, {time.process_time():4.0f} s CPU] {line}"
            )

    preset = folder / "scale.yaml"
    data = {"source": "folders", "root": str(root), "audit": {"gate": "warn" if is_audited else "off"}}
    pixels = {"size_px": size_px, "resize": "bilinear"}
    preset.write_text(dump_yaml({**PRESET, "data": data, "pixels": pixels}), encoding="utf-8")
    result = ftk.run(preset, out=folder / "runs", progress=Weighed())
    features = sum(file.stat().st_size for file in (folder / "cache" / "features").rglob("*") if file.is_file())
    return {
        **peak.largest,
        "cpu_s": time.process_time(),
        "photos": sum(row["split"] != "display" for row in ftk.FinishedRun(result.path).photos),
        "features_bytes": features,
        "asked_bytes": network_budget(prepare(preset)[0].spec.parameters).memory_bytes,
    }


def measure(photos: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Draw the photos, run, delete all of it."""
    folder = Path(tempfile.mkdtemp(prefix="bench-scale-"))
    try:
        draw_photos(folder / "photos", photos, PHOTO_PX)
        time.sleep(SETTLED_S)
        command = [__file__, "--one", folder, "--size", str(arguments.size), *(["--audit"] if arguments.audit else [])]
        variables = {
            "FINETUNEKIT_MEMORY_GB": str(arguments.memory),
            "FINETUNEKIT_CACHE": str(folder / "cache"),
            "FINETUNEKIT_STATE": str(folder / "state"),
        }
        report: dict[str, Any] = run_child(command, variables, is_shown=arguments.verbose).report
        return report
    finally:
        shutil.rmtree(folder)


def describe(found: dict[str, Any], size_px: int, bound_gb: float) -> str:
    """What there was, what was asked for, what it took, and what it may take."""
    pixels = found["photos"] * size_px**2 * 3
    return (
        f"{found['photos']:,} photos, {found['cpu_s']:.0f} s CPU: "
        f"pixels {pixels / 1e9:.2f} GB, features {found['features_bytes'] / 1e9:.2f} GB\n"
        f"  asked for before the start  {found['asked_bytes'] / 1e9:.2f} GB for the network\n"
        f"  peak of its own             {found['RssAnon'] / 1e9:.2f} GB; {found['VmHWM'] / 1e9:.2f} GB with mapped files\n"
        f"  bound                       {bound_gb * (1 << 30) / 1e9:.2f} GB"
    )


def main() -> None:
    """Measure each number of photos; print the growth between the first and the last."""
    parser = new_parser(__doc__)
    parser.add_argument("--photos", default="2000,10000", metavar="N,N")
    parser.add_argument("--size", type=int, default=64, metavar="PX", help="side of the network's input")
    parser.add_argument("--memory", type=float, default=4.0, metavar="GB", help="GiB that the run may use")
    parser.add_argument("--audit", action="store_true", help="look at the photos first, as runs do by default")
    parser.add_argument(
        "--verbose", action="store_true", help="show the runs' own lines, with memory and CPU seconds so far"
    )
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        root = arguments.one / "photos"
        print(json.dumps(run_one(root, arguments.one, arguments.size, is_audited=arguments.audit)))
        return
    stop_children_too()
    print(describe_machine())
    rows = []
    for photos in map(int, arguments.photos.split(",")):
        rows.append(measure(photos, arguments))
        print(describe(rows[-1], arguments.size, arguments.memory), flush=True)
    first, last = rows[0], rows[-1]
    if last["photos"] > first["photos"]:
        more = (last["RssAnon"] - first["RssAnon"]) / (last["photos"] - first["photos"])
        cpu_ms = 1e3 * (last["cpu_s"] - first["cpu_s"]) / (last["photos"] - first["photos"])
        print(f"each further photo: {more / 1e3:.1f} kB of memory, {cpu_ms:.1f} ms of CPU time")
    if any(row["RssAnon"] > arguments.memory * (1 << 30) for row in rows):
        raise SystemExit("over the bound")


if __name__ == "__main__":
    main()
