"""The whole felidae4 job of finetunekit against the plain Keras script of the experiment, in one run, interleaved.

    python benchmarks/bench_job.py --data DIR [--rounds N] [--modes preset,warm,...] [--torch] [--steps N] [--full] [--save FILE]

Each contestant is a process of its own, from start to end: starting up and peak memory are part of a job, and a process that has
worked before has warm thread pools and memory. Never two at once; each round runs all, one after the other, and ratios are taken
within a round, so that a busy machine slows all alike. Medians over rounds.

--torch adds the same job in plain PyTorch with bfloat16 (`plain_torch.py`; needs `pip install torch`).

Without --full every contestant trains --epochs epochs of --steps steps; the whole job is extrapolated as what is paid once (as
measured), the views of a bank that so few draws did not ask for, and 50 epochs at the rate of those after the first. With --full
all 50 epochs are trained and nothing is extrapolated.
Unless --rates 0, the best convolution rate at each layer's shape is measured in every round too, and each phase is held against it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conv_rates
from common import (
    BENCHMARKS,
    EPOCHS,
    PRESET,
    SPLITS_HELP,
    STEPS,
    VALIDATION_DRAWS,
    Epoch,
    Job,
    describe_machine,
    new_parser,
    parse_names,
    run_child,
    stop_children_too,
)
from job_table import BATCH_SIZE, MODES, OPPONENTS, PHOTOS, PLAIN, Round, best_rates, show_fractions, show_jobs
from plain_draws import expected_draws

from finetunekit.system.user_dirs import CACHE_VARIABLE, STATE_VARIABLE, cache_dir


@dataclass(frozen=True, slots=True)
class Effort:
    """How much every contestant trains.

    Attributes:
        epochs: At least 1; rates are of those after the first.
        steps: Training batches an epoch.
    """

    epochs: int
    steps: int

    @property
    def draws(self) -> int:
        """Draws of `steps` batches of a fresh pass: what finetunekit is asked for."""
        return expected_draws(PHOTOS, BATCH_SIZE, self.steps, 1)[0]


def run_ours(mode: str, data: Path, effort: Effort, cache: Path) -> tuple[Job, dict[str, Any]]:
    """One whole job of finetunekit in a process of its own, and what it reported."""
    settings = (
        *MODES[mode].settings,
        f"data.root={json.dumps(str(data))}",
        "data.audit={gate: warn}",  # the opponent trains on whatever photos there are
        f"stages[0].epochs={effort.epochs}",
        f"train.draws_per_epoch={effort.draws}",
        f"train.validation_draws={VALIDATION_DRAWS}",
    )
    with tempfile.TemporaryDirectory() as folder:
        variables = {CACHE_VARIABLE: str(cache), STATE_VARIABLE: str(Path(folder) / "state")}
        child = run_child([BENCHMARKS / "our_job.py", "--preset", PRESET, "--out", folder, *settings], variables)
    epochs = tuple(Epoch(**epoch) for epoch in child.report["epochs"])
    wrong = [e for e in epochs if (e.draws, e.validation_draws) != (effort.draws, VALIDATION_DRAWS)]
    if len(epochs) != effort.epochs or wrong:
        raise AssertionError(f"{mode}: {len(epochs)} epochs, {wrong}: this is another experiment")
    report, made = child.report, child.report["view_s"]
    # Two short epochs draw fewer views than the job's 50, and only those that are drawn are made.
    unmade_s = ((MODES[mode].views or 0) - len(made)) * statistics.median(made) if made else 0.0
    job = Job(child.whole_s, epochs, report["extraction_s"], report["evaluation_s"], child.peak_bytes, unmade_s)
    return job, report


def run_plain(script: str, data: Path, effort: Effort) -> tuple[Job, dict[str, Any]]:
    """One whole job of an opponent, which asserts its own draws, and what it reported."""
    arguments = ["--data", data, "--epochs", effort.epochs, "--steps", effort.steps]
    child = run_child([BENCHMARKS / script, *map(str, arguments), "--json"])
    epochs = tuple(Epoch(**epoch) for epoch in child.report["epochs"])
    return Job(child.whole_s, epochs, 0.0, child.report["evaluation_s"], child.peak_bytes), child.report


def new_cache(folder: Path) -> Path:
    """A cache that holds the user's pretrained arrays and no features."""
    shutil.copytree(cache_dir() / "weights", folder / "weights", ignore=shutil.ignore_patterns("*.lock"))
    return folder


def run_round(modes: Sequence[str], opponents: Sequence[str], data: Path, effort: Effort) -> Round:
    """Every contestant once."""
    done: dict[str, tuple[Job, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-job-") as folder:
        warm = new_cache(Path(folder) / "warm")
        for mode in modes:
            if mode == "warm" and "preset" not in done:  # fill the cache, not counted
                run_ours("preset", data, effort, warm)
            cache = warm if mode in ("warm", "preset") else new_cache(Path(folder) / mode)
            done[mode] = run_ours(mode, data, effort, cache)
        done |= {name: run_plain(OPPONENTS[name], data, effort) for name in opponents}
    return done


def measure_rates(repeats: int) -> dict[str, dict[str, float]]:
    report = run_child([BENCHMARKS / "conv_rates.py", "--repeats", str(repeats), "--json"]).report
    return report


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help=SPLITS_HELP)
    parser.add_argument("--modes", default=",".join(MODES), help=f"any of {', '.join(MODES)}")
    parser.add_argument("--torch", action="store_true", help="plain PyTorch as well")
    parser.add_argument("--rounds", type=int, help="default: 3, with --full 1")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of every contestant; the first only warms up")
    parser.add_argument(
        "--steps", type=int, default=20, help="steps an epoch; 20 is one pass and a batch, short one included"
    )
    parser.add_argument("--full", action="store_true", help="all 50 epochs of all contestants")
    parser.add_argument(
        "--rates", type=int, default=10, metavar="N", help="repeats of each convolution; 0 leaves them out"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="JSON of everything measured")
    asked = parser.parse_args()
    asked.modes = parse_names(parser, "modes", asked.modes, tuple(MODES))
    return asked


def main() -> None:
    asked = parse_arguments()
    stop_children_too()
    effort = Effort(EPOCHS, STEPS) if asked.full else Effort(asked.epochs, asked.steps)
    data, modes = asked.data.resolve(), asked.modes
    opponents = list(OPPONENTS) if asked.torch else [PLAIN]
    machine = describe_machine()
    print(machine, flush=True)
    rounds: list[Round] = []
    rates: list[conv_rates.Rates] = []
    for number in range(asked.rounds or (1 if asked.full else 3)):
        if asked.rates:
            rates.append(measure_rates(asked.rates))
        rounds.append(run_round(modes, opponents, data, effort))
        times = "   ".join(f"{name} {done[0].whole_s:.1f} s" for name, done in rounds[-1].items())
        print(f"round {number + 1}, as run: {times}", flush=True)
    kind = "all 50 epochs run" if asked.full else f"extrapolated from {effort.epochs} epochs of {effort.steps} steps"
    print(f"\n{len(rounds)} rounds, {kind}; load average now {os.getloadavg()[0]:.2f}")
    print("\n".join(show_jobs(rounds, asked.full)))
    if rates:
        print("\n" + "\n".join(show_fractions(rounds, best_rates(rates))))
    if asked.save:
        asked.save.write_text(json.dumps(_record(machine, rounds, rates), indent=2) + "\n", encoding="utf-8")


def _record(machine: str, rounds: Sequence[Round], rates: Sequence[conv_rates.Rates]) -> dict[str, Any]:
    jobs = [{name: {**job.to_json(), "report": report} for name, (job, report) in done.items()} for done in rounds]
    return {"machine": machine, "rounds": jobs, "convolution_gflop_per_s": list(rates)}


if __name__ == "__main__":
    main()
