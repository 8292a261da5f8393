"""One whole job of finetunekit in this process, its parts timed; what `bench_job.py` starts. Prints one line of JSON.

python benchmarks/our_job.py --preset FILE --out DIR [a.b=VALUE ...]
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common import Epoch, parse_job

import finetunekit as ftk
from finetunekit.system.progress import Progress

EXTRACTION, VIEW = "features of", "features of view"


@dataclass
class Extraction:
    """Features being made.

    Attributes:
        started: Clock when it began.
        ended: Clock at its last photo.
        is_view: Whether of a banked view; else of photos as they are.
        photos: Photos so far.
    """

    started: float
    ended: float
    is_view: bool
    photos: int = 0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


@dataclass
class Watch(Progress):
    """Progress that prints nothing and notes when features were made and epochs ended."""

    extractions: list[Extraction] = field(default_factory=list)
    last_epoch: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(is_quiet=True)

    def say(self, line: str) -> None:
        """Note the end of an epoch."""
        if line.startswith("epoch "):
            self.last_epoch = time.perf_counter()

    def tick(self, text: str) -> None:
        """Nothing is shown."""

    def counter(self, what: str) -> Callable[[int, int], None]:
        """Note what counts photos through the prefix."""
        now = time.perf_counter()
        extraction = Extraction(now, now, what.startswith(VIEW))
        if what.startswith(EXTRACTION):
            self.extractions.append(extraction)

        def count(done: int, total: int) -> None:
            extraction.ended, extraction.photos = time.perf_counter(), done

        return count


def read_epochs(path: Path) -> tuple[Epoch, ...]:
    """Epochs of a finished run."""
    epochs = []
    for row in ftk.FinishedRun(path).epochs:
        train_s = int(row["draws"]) / float(row["images_per_s"])
        epochs.append(Epoch(train_s, float(row["seconds"]) - train_s, int(row["draws"]), int(row["val_draws"])))
    return tuple(epochs)


def report_job(result: ftk.RunResult, watch: Watch) -> dict[str, Any]:
    """Parts of a finished job, as plain values."""
    run = ftk.FinishedRun(result.path)
    evaluated = sum(e.seconds for e in watch.extractions if e.started > watch.last_epoch)
    return {
        "epochs": [asdict(epoch) for epoch in read_epochs(result.path)],
        "extraction_s": sum(e.seconds for e in watch.extractions),
        "view_s": [e.seconds for e in watch.extractions if e.is_view],
        "extracted": sum(e.photos for e in watch.extractions),
        "evaluation_s": max(0.0, result.metrics["seconds"]["evaluation"] - evaluated),
        "validation_photos": int(run.epochs[-1]["val_photos"]),
        "precision": run.state["precision"],
        "modes": [stage["mode"] for stage in run.state["stages"]],
        "test_log_loss": result.metrics["test"]["log_loss"]["value"],
        "test_accuracy": result.metrics["test"]["accuracy"]["value"],
    }


def main() -> None:
    asked = parse_job(__doc__)
    watch = Watch()
    result = ftk.run(asked.preset, settings=asked.settings, out=asked.out, progress=watch)
    print(json.dumps(report_job(result, watch)))


if __name__ == "__main__":
    main()
