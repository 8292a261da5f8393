"""What the benches share: children that are timed and weighed, one at a time, and the job of one contestant as numbers.

Nothing here imports TensorFlow: the process that waits must be small, since Linux counts a parent's memory at the time of the fork into
its child's peak.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from finetunekit.system.environment import available_cpus, processor_name
from finetunekit.system.files import locked

BENCHMARKS = Path(__file__).resolve().parent
PRESET = BENCHMARKS.parent / "presets" / "felidae4.yaml"
EPOCHS, STEPS, DRAWS, VALIDATION_DRAWS = 50, 50, 1584, 360
"""The experiment: 50 epochs of 50 steps. Source: docs/reproduction.md."""
FRESH_VIEWS = 150
"""Kept views that are fresh ones: more than any photo is drawn in a run of the experiment, so that none comes twice."""
SPLITS_HELP = "folder that holds train/, valid/ and test/"

Trial = TypeVar("Trial")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of one contestant.

    Attributes:
        train_s: Its training steps, in seconds.
        validation_s: Its validation, in seconds.
        draws: Photos trained on.
        validation_draws: Photos that the validation stands for.
    """

    train_s: float
    validation_s: float
    draws: int
    validation_draws: int


@dataclass(frozen=True, slots=True)
class Job:
    """One contestant's job, whole.

    Attributes:
        whole_s: From starting the process to its end.
        epochs: At least one.
        extraction_s: Making features of the frozen prefix.
        evaluation_s: The final evaluation, extraction aside.
        peak_bytes: Largest resident memory.
        unmade_s: Making the features that only more epochs ask for.
    """

    whole_s: float
    epochs: tuple[Epoch, ...]
    extraction_s: float
    evaluation_s: float
    peak_bytes: int
    unmade_s: float = 0.0

    @property
    def _steady(self) -> tuple[Epoch, ...]:
        return self.epochs[1:] or self.epochs  # the first epoch builds graphs

    @property
    def image_s(self) -> float:
        """Seconds a training draw, once graphs are built."""
        return statistics.median(epoch.train_s / epoch.draws for epoch in self._steady)

    @property
    def validation_s(self) -> float:
        """Seconds a validation, once graphs are built and features are there."""
        return statistics.median(epoch.validation_s for epoch in self._steady)

    @property
    def once_s(self) -> float:
        """What is paid once: everything but steady training and validation."""
        draws = sum(epoch.draws for epoch in self.epochs)
        return max(0.0, self.whole_s - draws * self.image_s - len(self.epochs) * self.validation_s)

    @property
    def rest_s(self) -> float:
        """What is paid once besides extraction and evaluation: start-up, decoding, graphs, saving, reports."""
        return max(0.0, self.once_s - self.extraction_s - self.evaluation_s)

    def extrapolate(self, epochs: int = EPOCHS, draws: float = DRAWS) -> float:
        """Seconds of the same job with `epochs` epochs of `draws` draws, all features made; what is paid once stays as measured."""
        return self.once_s + self.unmade_s + epochs * (draws * self.image_s + self.validation_s)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Child:
    """A process that ended well.

    Attributes:
        report: The JSON of its last line on stdout.
        whole_s: From its start to its end.
        peak_bytes: Its largest resident memory.
    """

    report: dict[str, Any]
    whole_s: float
    peak_bytes: int


def run_child(
    arguments: Sequence[str | Path],
    variables: Mapping[str, str] | None = None,
    *,
    is_shown: bool = False,
    python: str | Path = sys.executable,
) -> Child:
    """Run one Python process to its end, alone.

    Args:
        arguments: Script and its arguments; its last line on stdout must be JSON.
        variables: Added to the environment.
        is_shown: Let its stderr through; else it is kept and shown only if the process fails.
        python: The interpreter, for a child that has an environment of its own.

    Raises:
        RuntimeError: If it fails, with the end of what it said.
    """
    command = [str(python), *(str(argument) for argument in arguments)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=out, stderr=None if is_shown else err, env={**os.environ, **(variables or {})}
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        whole_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said = _text(out)
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{_text(err)[-2000:]}")
    return Child(json.loads(said.strip().splitlines()[-1]), whole_s, peak_bytes(usage.ru_maxrss))


def stop_children_too() -> None:
    """Let a terminated bench end as an interrupted one does, so that its child does not go on alone."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def peak_bytes(ru_maxrss: int) -> int:
    """`ru_maxrss` in bytes: it counts KiB, on macOS bytes."""
    return ru_maxrss if sys.platform == "darwin" else ru_maxrss * 1024


def new_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help begins with a bench's own words."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def parse_job(doc: str | None) -> argparse.Namespace:
    """What a bench asks of one run in a child: `preset`, `out` and `settings`."""
    parser = new_parser(doc)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("settings", nargs="*", metavar="a.b=VALUE")
    return parser.parse_args()


def parse_names(parser: argparse.ArgumentParser, option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Names separated by commas; one that is not known ends the bench with a line that says which are."""
    chosen = tuple(text.split(","))
    if unknown := set(chosen) - set(known):
        parser.error(f"--{option}: {', '.join(sorted(unknown))} unknown; choose from {', '.join(known)}")
    return chosen


def parse_seeds(text: str) -> tuple[int, ...]:
    """`3` → 0, 1, 2; `0,4` → 0, 4; `10-12` → 10, 11, 12.

    Raises:
        ValueError: If the text is none of these.
    """
    if found := re.fullmatch(r"(\d+)-(\d+)", text):
        return tuple(range(int(found[1]), int(found[2]) + 1))
    return tuple(int(part) for part in text.split(",")) if "," in text else tuple(range(int(text)))


def add_trial_options(parser: argparse.ArgumentParser, trial: Callable[..., object]) -> None:
    """`--seeds`, `--shared-views`, `--table`, and `--one`, by which a bench tells its child the trial to run.

    Args:
        parser: Of the bench.
        trial: Makes a trial of its attributes.
    """
    parser.add_argument("--seeds", type=parse_seeds, default=(0, 1, 2), help="how many, or which: 0,1,2 or 10-19")
    parser.add_argument("--shared-views", action="store_true", help="all seeds share one set of augmented views")
    parser.add_argument("--table", action="store_true", help="print from what is there, run nothing")
    parser.add_argument("--one", type=lambda text: trial(**json.loads(text)), help=argparse.SUPPRESS)


def run_trial_child(script: str, trial: Mapping[str, Any], out: Path) -> Child:
    """Run one trial, as its attributes, by the script's own `--one`, in a process of its own.

    Raises:
        RuntimeError: If it fails.
    """
    arguments = ["--one", json.dumps(trial), "--out", str(out), "--data", trial["data"]]
    return run_child([BENCHMARKS / script, *arguments], is_shown=True)


def run_trials(
    asked: argparse.Namespace, trials: Sequence[Trial], run_missing: Callable[[Sequence[Trial], Path], None]
) -> None:
    """Run what is missing of the trials, the only process to do so in that folder; with `--table` nothing."""
    stop_children_too()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.table:
        return
    print(describe_machine(), file=sys.stderr)
    with locked(asked.out):
        run_missing(trials, asked.out)


def _text(stream: Any) -> str:
    stream.seek(0)
    return str(stream.read().decode("utf-8", "replace"))


def describe_machine() -> str:
    """Processor, number of CPUs, versions and what else the machine is doing, for the head of every table."""
    load = os.getloadavg()[0]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("tensorflow", "keras"))
    noise = f"load average {load:.2f} before the start" + (": NOISY, others are working" if load > 0.5 else "")
    return f"{processor_name()}, {available_cpus()} CPUs, {platform.system()}, {versions}; {noise}"


def growth_exponent(before: tuple[float, float], now: tuple[float, float]) -> float:
    """By which power of the size a cost grows from one (size, cost) to the next: 1 where all cost the same."""
    return math.log(now[1] / before[1]) / math.log(now[0] / before[0])


def show_spread(values: Sequence[float], digits: int = 1) -> str:
    """Median and range."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"
