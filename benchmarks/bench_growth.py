"""How scores and reports grow with photos and classes: processor seconds, memory, size of the page, and the exponent from row to row.

    python benchmarks/bench_growth.py RUN [--sizes 1000x10,10000x10,100000x10,1000x1000,5000x1000]

RUN is any finished run. Its folder is copied, its predictions are replaced by drawn ones of so many photos and classes, and they are scored
and reported as a run does it, each in a process of its own. Exponents compare sizes of one number of classes: 1 means that each photo
costs the same.

Photos themselves: `bench_growth_photos.py` (listing, decoding, audit, extraction, solving); whole runs, their memory: `bench_scale.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import describe_machine, growth_exponent, new_parser, run_child, stop_children_too

_SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """Photos and classes of one row."""

    photos: int
    classes: int


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sizes", default="1000x10,10000x10,100000x10,1000x1000,5000x1000")
    parser.add_argument("--one", choices=["score", "report"], help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    sizes = [Size(*map(int, text.split("x"))) for text in asked.sizes.split(",")]
    if asked.one:
        print(json.dumps(score(asked.run, asked.into, sizes[0]) if asked.one == "score" else report(asked.into)))
        return
    stop_children_too()
    print(describe_machine(), file=sys.stderr)
    print(
        "| photos | classes | scores, s | exponent | report, s | exponent | page, MB | peak of the report, MB |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    before: dict[int, tuple[Size, Mapping[str, float]]] = {}
    for size in sizes:
        found, peak_bytes = measure(asked.run, size)
        powers = [_exponent(before.get(size.classes), size, found, name) for name in ("scores_s", "report_s")]
        cells = [found["scores_s"], powers[0], found["report_s"], powers[1], found["page_mb"]]
        shown = " | ".join(f"{cell:.2f}" if cell is not None else "" for cell in cells)
        print(f"| {size.photos:,} | {size.classes:,} | {shown} | {peak_bytes / 1e6:.0f} |", flush=True)
        before[size.classes] = size, found


def _exponent(
    before: tuple[Size, Mapping[str, float]] | None, now: Size, found: Mapping[str, float], name: str
) -> float | None:
    if before is None:
        return None
    return growth_exponent((before[0].photos, before[1][name]), (now.photos, found[name]))


def measure(run: Path, size: Size) -> tuple[dict[str, float], int]:
    """What one size costs, and the report's peak memory: it is made by a process that has drawn nothing."""
    with tempfile.TemporaryDirectory() as folder:
        command = [__file__, run, "--sizes", f"{size.photos}x{size.classes}", "--into", f"{folder}/run", "--one"]
        scored, reported = (run_child([*command, step]) for step in ("score", "report"))
    return {**scored.report, **reported.report}, reported.peak_bytes


def score(run: Path, copy: Path, size: Size) -> dict[str, float]:
    """Processor seconds of the scores of drawn predictions, which a copy of the run then holds."""
    from finetunekit.evaluation.scores import score_splits

    classes = tuple(f"class{i:04d}" for i in range(size.classes))
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("model.*", "reports", "train_features*"))
    rows = [row for split in _SHARES for row in _drawn(split, int(size.photos * _SHARES[split]), classes)]
    started = time.process_time()
    scores = score_splits(rows, classes, tuple(_SHARES))
    scores_s = time.process_time() - started
    _write(copy, rows, classes, scores)
    return {"scores_s": scores_s}


def report(run: Path) -> dict[str, float]:
    """Processor seconds of all reports of a run, and how large its page is."""
    from finetunekit.engine.api import rebuild_reports

    started = time.process_time()
    rebuild_reports(run)
    report_s = time.process_time() - started
    return {"report_s": report_s, "page_mb": (run / "reports" / "report.html").stat().st_size / 1e6}


def _drawn(split: str, photos: int, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of `predictions.csv` for photos that were never taken."""
    generator, labels = np.random.default_rng(len(split)), np.arange(photos) % len(classes)
    logits = generator.normal(size=(photos, len(classes)))
    logits[np.arange(photos), labels] += 2.5 + math.log(len(classes)) / 2
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    rows = []
    for number, (label, row) in enumerate(zip(labels, shares, strict=True)):
        texts = [repr(share) for share in row.tolist()]
        named = {
            f"{kind}_{name}": text for kind in ("p", "uncalibrated") for name, text in zip(classes, texts, strict=True)
        }
        rows.append(
            {
                "split": split,
                "path": f"{classes[label]}/{split}-{number}.jpg",
                "sha256": hashlib.sha256(f"{split}{number}".encode()).hexdigest(),
                "true": classes[label],
                "predicted": classes[int(row.argmax())],
                **named,
            }
        )
    return rows


def _write(run: Path, rows: list[dict[str, Any]], classes: tuple[str, ...], scores: Mapping[str, Any]) -> None:
    from finetunekit.evaluation.predictions import prediction_columns
    from finetunekit.system.files import to_csv, to_json, write_whole

    write_whole(run / "predictions.csv", to_csv(rows, prediction_columns(classes)))
    photos = [{"path": r["path"], "sha256": r["sha256"], "label": r["true"], "split": r["split"]} for r in rows]
    size = {"width_px": 320, "height_px": 240}
    write_whole(run / "photos.csv", to_csv([{**photo, **size} for photo in photos], [*photos[0], *size]))
    for name, added in (("metrics.json", {**scores, "classes": classes}), ("run.json", {"classes": classes})):
        write_whole(run / name, to_json({**json.loads((run / name).read_text(encoding="utf-8")), **added}))


if __name__ == "__main__":
    main()
