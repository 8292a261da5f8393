"""Does the view bank, or bfloat16, cost anything? Exact against bank, paired by seed and on the same photos, judged by equivalence.

    python benchmarks/evidence.py --data DIR --out DIR [--arms A,B] [--seeds N | 0,1,2 | 10-19] [--epochs N] [--shared-views]
    python benchmarks/evidence.py --data DIR --out DIR --table

Arms: exact-fp32 (the reference: fresh views every epoch, the letter of the experiment), exact-bf16, bank2-fp32 ... bank64-bf16. Each
(arm, seed) is one whole `finetunekit.run` in a process of its own. Finished ones are noted in OUT/evidence.jsonl and never run again; one
that was killed starts anew. --table prints what is there and runs nothing.

Margins, stated before the first run: 1.5 points of accuracy, 0.02 nats of log loss; two one-sided tests at 5 % each. An arm passes if all
four of its tests pass: accuracy and log loss, over paired seeds and over photos.

--shared-views: all seeds share one set of views (view_seed 0), which saves computing their features for each. An exact arm is then a
bank of FRESH_VIEWS views of each photo, more than any photo is drawn in a run, so that no view comes twice: fresh views every epoch. The
spread over seeds leaves out what the choice of views adds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

from common import (
    EPOCHS,
    FRESH_VIEWS,
    PRESET,
    SPLITS_HELP,
    add_trial_options,
    new_parser,
    parse_names,
    run_trial_child,
    run_trials,
)
from evidence_table import REFERENCE, Scored, read_scored, render_tables

from finetunekit import FinetuneKitError, FinishedRun
from finetunekit.system.files import append_line

VIEWS, PRECISIONS = (2, 4, 8, 16, 32, 64), {"fp32": "float32", "bf16": "bfloat16"}
ARMS = tuple(f"{kind}-{p}" for kind in ("exact", *(f"bank{k}" for k in VIEWS)) for p in PRECISIONS)
LEDGER = "evidence.jsonl"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run that is asked for: everything its result follows from but the code.

    Attributes:
        arm: Of `ARMS`.
        seed: Of the run.
        epochs: Of its only stage.
        view_seed: Of its views; None: the seed.
        data: Folder of the splits.
        preset: Its path.
    """

    arm: str
    seed: int
    epochs: int
    view_seed: int | None
    data: str
    preset: str

    @property
    def settings(self) -> tuple[str, ...]:
        """Over the preset's."""
        kind, precision = self.arm.split("-")
        is_fresh = kind == "exact"
        is_bank = not is_fresh or self.view_seed is not None
        return (
            f"cache.mode={'bank' if is_bank else 'exact'}",
            *((f"cache.views={FRESH_VIEWS if is_fresh else kind.removeprefix('bank')}",) if is_bank else ()),
            f"precision={PRECISIONS[precision]}",
            f"view_seed={'null' if self.view_seed is None else self.view_seed}",
            f"stages[0].epochs={self.epochs}",
            f"data.root={json.dumps(self.data)}",
            "save.h5=false",
            "reports=[]",
            "pixels.check_photos=0",
            "insights={baselines: false, gradcam_photos: 0}",
            "data.audit={gate: warn}",
        )


def plan_trials(
    arms: Sequence[str], seeds: Sequence[int], *, epochs: int, data: Path, preset: Path, is_shared: bool
) -> list[Trial]:
    """Every run asked for: all arms of a seed before the next seed, so that pairs are complete early."""
    return [
        Trial(arm, seed, epochs, 0 if is_shared else None, str(data), str(preset)) for seed in seeds for arm in arms
    ]


def read_ledger(out: Path) -> dict[Trial, Path]:
    """Trials whose run folder is there and finished; a line cut off by a crash is left out, and its trial runs again."""
    done: dict[Trial, Path] = {}
    path = out / LEDGER
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
            trial, run = Trial(**entry["trial"]), out / entry["run"]
            status = FinishedRun(run).state["status"]
        except (json.JSONDecodeError, KeyError, TypeError, FinetuneKitError) as exc:
            print(f"{path}: a line is left out: {' '.join(str(exc).split())[:120]}", file=sys.stderr)
            continue
        if status == "finished":
            done[trial] = run
    return done


def run_trial(trial: Trial, out: Path) -> None:
    """Run one trial in a process of its own and note it.

    Raises:
        RuntimeError: If the run fails.
    """
    child = run_trial_child("evidence.py", asdict(trial), out)
    entry = {"trial": asdict(trial), "run": child.report["run"], "seconds": round(child.whole_s, 1)}
    append_line(out / LEDGER, json.dumps(entry) + "\n")


def run_one(trial: Trial, out: Path) -> None:
    """The child's part: one run, its folder's name on the last line."""
    import finetunekit as ftk

    with redirect_stdout(sys.stderr):
        result = ftk.run(trial.preset, settings=trial.settings, seed=trial.seed, out=out)
    print(json.dumps({"run": result.path.name}))


def run_missing(trials: Sequence[Trial], out: Path) -> None:
    """Run what is not noted yet, one at a time."""
    done = read_ledger(out)
    missing = [trial for trial in trials if trial not in done]
    print(f"{len(trials)} runs asked for, {len(missing)} to do", file=sys.stderr)
    for number, trial in enumerate(missing, 1):
        print(f"{number} of {len(missing)}: {trial.arm}, seed {trial.seed}", file=sys.stderr, flush=True)
        run_trial(trial, out)


def score_trials(trials: Sequence[Trial], out: Path) -> Iterator[Scored]:
    """Finished ones among the trials."""
    done = read_ledger(out)
    for trial in trials:
        if trial in done:
            yield read_scored(trial.arm, trial.seed, done[trial])


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help=SPLITS_HELP)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and of what is noted")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"any of {', '.join(ARMS)}; the reference is added")
    parser.add_argument("--reference", choices=ARMS, default=REFERENCE, help="what the others are judged against")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--preset", type=Path, default=PRESET, help="YAML with one stage; default: felidae4")
    add_trial_options(parser, Trial)
    asked = parser.parse_args()
    asked.arms = parse_names(parser, "arms", asked.arms, ARMS)
    return asked


def main() -> None:
    asked = parse_arguments()
    if asked.one:
        run_one(asked.one, asked.out)
        return
    arms = list(dict.fromkeys([asked.reference, *asked.arms]))
    trials = plan_trials(
        arms,
        asked.seeds,
        epochs=asked.epochs,
        data=asked.data.resolve(),
        preset=asked.preset.resolve(),
        is_shared=asked.shared_views,
    )
    run_trials(asked, trials, run_missing)
    print(render_tables(tuple(score_trials(trials, asked.out)), arms, is_shared=asked.shared_views))


if __name__ == "__main__":
    main()
