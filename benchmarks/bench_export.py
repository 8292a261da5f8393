"""A finished run in every built-in format: how far its answers are, how large, how fast beside Keras, and whether targets are met.

Usage: python benchmarks/bench_export.py RUN [--only litert-int8]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import finetunekit as ftk
from finetunekit.system.progress import Progress

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "litert": ("litert", {}),
    "litert-fp16": ("litert", {"quantize": "fp16"}),
    "litert-int8": ("litert", {"quantize": "int8"}),
    "onnx": ("onnx", {}),
    "savedmodel": ("savedmodel", {}),
}
#: Precision → largest difference of a probability aimed at.
TARGETS = {"float32": 1e-5, "float16": 1e-2}
MARGIN_POINTS = 1.0
#: What is measured is reported, whatever it is.
LIMITS = {"max_difference": 1.0, "max_difference_float16": 1.0, "margin_points": 99.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--only", choices=FORMATS, action="append")
    arguments = parser.parse_args()
    loaded = ftk.load(arguments.run)
    print("format        same   largest   probes    MB     batch 1   batch 32  target")
    for name in arguments.only or FORMATS:
        to, options = FORMATS[name]
        with tempfile.TemporaryDirectory() as folder:
            result = loaded.export(
                to, options, into=Path(folder) / name, limits=LIMITS, progress=Progress(is_quiet=True)
            )
        print(f"{name:13s} {line(result.certificate)}", flush=True)


def line(certificate: Mapping[str, Any]) -> str:
    network, same = certificate["network"], certificate["network"]["same_first_answer"]
    megabytes = sum(file["bytes"] for file in certificate["model"]["files"].values()) / 1e6
    faster = [f"{found['times_faster']:.2f} x Keras" for found in certificate["cost"]["milliseconds"].values()]
    return (
        f"{same['photos']}/{same['of']} {network['largest_difference']:.1e} {certificate['probes']['largest_difference']:.1e} "
        f"{megabytes:.1f} {' '.join(faster)} {'met' if is_met(certificate) else 'missed'}"
    )


def is_met(certificate: Mapping[str, Any]) -> bool:
    target = TARGETS.get(certificate["model"]["precision"])
    if target is None:  # 8 bits: not inferior by a point, from the interval that the certificate keeps
        return bool(certificate["accuracy"]["margin_interval"]["low"] > -MARGIN_POINTS / 100)
    return max(certificate["network"]["largest_difference"], certificate["probes"]["largest_difference"]) <= target


if __name__ == "__main__":
    main()
