"""A finished run in every built-in format: how far its answers are, how large, how fast beside Keras, and whether targets are met.

Usage: python benchmarks/bench_export.py RUN [--only litert-int8]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import finetunekit as ftk
from finetunekit import Predict
from finetunekit.engine.export import plan_export
from finetunekit.exporting.comparison import Reference, ask_model, compare_accuracy, compare_answers, refer
from finetunekit.exporting.servable import servable_of
from finetunekit.system.progress import Progress

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "litert": ("litert", {}),
    "litert-fp16": ("litert", {"quantize": "fp16"}),
    "litert-int8": ("litert", {"quantize": "int8"}),
    "onnx": ("onnx", {}),
    "savedmodel": ("savedmodel", {}),
    "keras": ("keras", {}),
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
    photos, truth = all_photos(loaded)
    print("same, largest and right, the run's beside it: on all photos of the run; ms: batch of 1, of 32")
    print(
        f"{'format':13s} {'same':9s} {'largest':8s} {'probes':8s} {'right':9s} {'MB':6s} {'ms':14s} {'Keras ms':14s} target"
    )
    opened: dict[str, Predict] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only or FORMATS:
            to, options = FORMATS[name]
            into = Path(folder) / name
            result = loaded.export(to, options, into=into, limits=LIMITS, progress=Progress(is_quiet=True))
            opened[name] = plan_export(loaded.run, to, options, into=into).exporter.open(into)
            answers = ask_model(opened[name], photos, result.certificate["model"]["takes"])
            compared = compare_answers(photos.names, photos.probabilities, answers, loaded.classes)
            accuracy = compare_accuracy(photos.probabilities, answers, truth, MARGIN_POINTS / 100)
            print(f"{name:13s} {line(result.certificate, compared, accuracy)}", flush=True)
        if {"litert", "litert-int8"} <= opened.keys():
            faster = times_faster(opened["litert-int8"], opened["litert"], photos.squares[:1])
            print(
                f"LiteRT in 8 bits takes a photo {faster:.1f} times as fast as in float32, timed in turns (target: 2)"
            )


def times_faster(one: Predict, other: Predict, photo: NDArray[np.uint8], rounds: int = 40) -> float:
    """In turns, so that whatever else the machine does meets both alike; the median of the ratios."""
    ratios = []
    for _ in range(rounds):
        seconds = []
        for predict in (one, other):
            started = time.perf_counter()
            predict(photo)
            seconds.append(time.perf_counter() - started)
        ratios.append(seconds[1] / seconds[0])
    return statistics.median(ratios)


def all_photos(loaded: ftk.LoadedRun) -> tuple[Reference, NDArray[np.int64]]:
    """Those that it was trained on too, and the place of each one's class."""
    paths = {row["path"]: loaded.run.photo_path(row["path"]) for row in loaded.run.photos}
    truth = np.array([loaded.classes.index(row["label"]) for row in loaded.run.photos])
    return refer(servable_of(loaded), paths, loaded.run.config["data"]["max_photo_pixels"]), truth


def line(certificate: Mapping[str, Any], compared: Mapping[str, Any], accuracy: Mapping[str, Any]) -> str:
    same = compared["same_first_answer"]
    megabytes = sum(file["bytes"] for file in certificate["model"]["files"].values()) / 1e6
    times = certificate["cost"]["milliseconds"].values()
    exported, keras = (", ".join(f"{found[key]:.1f}" for found in times) for key in ("exported_ms", "keras_ms"))
    return (
        f"{same['photos']}/{same['of']:<5} {compared['largest_difference']:<8.1e} {certificate['probes']['largest_difference']:<8.1e} "
        f"{accuracy['exported_right']}, {accuracy['run_right']:<4} {megabytes:<6.2f} {exported:14s} {keras:14s} "
        f"{'met' if is_met(certificate, compared, accuracy) else 'missed'}"
    )


def is_met(certificate: Mapping[str, Any], compared: Mapping[str, Any], accuracy: Mapping[str, Any]) -> bool:
    target = TARGETS.get(certificate["model"]["precision"])
    if target is None:  # 8 bits
        return bool(accuracy["is_not_inferior"])
    return max(compared["largest_difference"], certificate["probes"]["largest_difference"]) <= target


if __name__ == "__main__":
    main()
