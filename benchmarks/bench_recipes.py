"""The presets for small data on resplits of several tasks, beside a plain script: means with intervals, and what each gains on another.

    python benchmarks/bench_recipes.py --data DIR [--task NAME=DIR ...] --resplits N --out DIR [--recipes A,B] [--variants A,B] [--plain]

--data is felidae4 (any task of folders will do), --task adds others. Each task is split anew N times, 60 / 20 / 20 % of each class, copies
left out, and given to every recipe in three variants: as it is, every photo shrunk to 75 px first (`px32`, `px48`: to those), and with 20
training photos of each class (`per10`, `per50`: with those) and a third as many for validation. Photos stay where they are.

Every run is a process of its own; its time is from the command to the saved model, TensorFlow's start included, with no features kept from
before. What is done is kept in --out, and a second call goes on where the first was stopped. Two runs of one resplit are scored on the same
photos, so differences are paired. Intervals are Student's t over resplits; resplits share photos, so that they are somewhat too narrow.

`best-of-one` is `best` on one network; `tuned-now` is its fine-tuning from the probe of `fast`, kept whether it pays or not;
`tuned-before` is what that was: six blocks with all their kernels, from fresh pixels. The others are `best-of-one` with another
fine-tuning, kept whether it pays or not: `tuned-slow` for three times as many epochs at a third of the rate; `tuned-by-layer` at a rate
that falls from block to block over the last six; `tuned-rand` with RandAugment after the crops; `tuned-mixup` on blends of two crops, fresh
ones each time; `tuned-norm` with the statistics of BatchNorm learnt from these photos. The recipe `plain-probe` is `plain_probe.py`: what a
user writes in fifteen lines, as a process of its own as well.

--plain runs the plain Keras script of the experiment beside it on --data, its whole job extrapolated as in bench_job.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_job import Effort, new_cache, run_plain
from common import BENCHMARKS, describe_machine, new_parser, parse_names, run_child, show_spread, stop_children_too
from job_table import PLAIN
from recipe_splits import find_photos, show_mean, size_of, split_again, write_table

from finetunekit.config.planning import prepare
from finetunekit.system.files import write_whole
from finetunekit.system.user_dirs import CACHE_VARIABLE, STATE_VARIABLE

ONE_NETWORK = ("backbone={name: efficientnet_lite0}", "pixels.size_px=224")
KEPT_TUNED = (*ONE_NETWORK, "stages[1].cross_fit=null")
ALWAYS_TUNED = (*KEPT_TUNED, "head={name: linear, unit_length: false}")
CROP = "{name: random_resized_crop, area: [0.5, 1.0]}"
#: Recipe → preset and settings; the plain script has none.
RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain-probe": ("", ()),
    "fast": ("fast", ()),
    "small-data": ("small-data", ()),
    "best": ("best", ()),
    "best-of-one": ("best", ONE_NETWORK),
    "tuned-before": (
        "best",
        (*ALWAYS_TUNED, "cache={mode: exact}", "stages[1].freeze={name: last_blocks, n: 6, depthwise: true}"),
    ),
    "tuned-now": ("best", ALWAYS_TUNED),
    "tuned-slow": ("best", (*KEPT_TUNED, "stages[1].epochs=18", "stages[1].optimizer.learning_rate=1e-3")),
    "tuned-by-layer": ("best", (*KEPT_TUNED, "stages[1].freeze={name: layer_decay, decay: 0.65, blocks: 6}")),
    "tuned-rand": ("best", (*KEPT_TUNED, f"augment=[{CROP}, {{name: flip}}, {{name: rand_augment}}]")),
    "tuned-mixup": (
        "best",
        (*KEPT_TUNED, "cache={mode: exact}", f"augment=[{CROP}, {{name: flip}}, {{name: mixup}}]"),
    ),
    "tuned-norm": ("best", (*KEPT_TUNED, "stages[1].train_batch_norm=true", "stages[1].interpolate=1.0")),
    "felidae4-fast": ("felidae4-fast", ()),
    "felidae4-best": ("felidae4-best", ()),
}
#: Pairs whose difference is shown.
PAIRS = (
    ("fast", "plain-probe"),
    ("small-data", "plain-probe"),
    ("best", "small-data"),
    ("best-of-one", "fast"),
    ("tuned-now", "tuned-before"),
    ("tuned-before", "fast"),
    ("tuned-now", "fast"),
    *((f"tuned-{how}", "best-of-one") for how in ("slow", "by-layer", "rand", "mixup", "norm")),
    ("felidae4-best", "felidae4-fast"),
)
#: Photos are split here without leaks; what baselines and reports add is not the recipe's.
COMMON = ("insights={baselines: false, gradcam_photos: 0}", "reports=[]", "data.audit.gate='off'")
VARIANTS = "as-is,px75,per20"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: a task in a variant, split in one way, by one recipe."""

    task: str
    variant: str
    resplit: int
    recipe: str

    @property
    def name(self) -> str:
        """The beginning of its file's name."""
        return f"{self.task}-{self.variant}-{self.resplit}-{self.recipe}"


def kept_file(cell: Cell, out: Path) -> Path:
    """Where a cell's report is kept. A preset that was changed has another, so that it is run anew."""
    preset, settings = RECIPES[cell.recipe]
    asked = prepare(preset, settings=settings)[0].config.model_dump_json() if preset else ""
    return out / "cells" / f"{cell.name}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}.json"


def write_cell_table(cell: Cell, root: Path, out: Path) -> Path:
    """Write the resplit of a cell as a table; returns its path."""
    split = split_again(find_photos(root), cell.resplit, size_of(cell.variant, "per"))
    return write_table(split, out / "tables" / f"{cell.task}-{cell.variant}-{cell.resplit}.csv")


def run_cell(cell: Cell, root: Path, out: Path) -> dict[str, Any]:
    """Run one cell, or read what an earlier call kept of it."""
    preset, settings = RECIPES[cell.recipe]
    kept = kept_file(cell, out)
    if kept.is_file():
        known: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return known
    table = write_cell_table(cell, root, out)
    source = {"source": "table", "root": str(table), "options": {"allow_outside": True}, "otherwise": None}
    chosen = [f"data.{key}={json.dumps(value)}" for key, value in source.items()]
    if source_px := size_of(cell.variant, "px"):
        chosen.append(f"pixels.source_px={source_px}")
    with tempfile.TemporaryDirectory(prefix="bench-recipes-") as folder:
        cache = new_cache(Path(folder) / "cache")
        variables = {CACHE_VARIABLE: str(cache), STATE_VARIABLE: str(Path(folder) / "state")}
        arguments = ["--preset", preset, "--out", folder, *COMMON, *settings, *chosen, f"seed={cell.resplit}"]
        plain = [BENCHMARKS / "plain_probe.py", table, *([f"--source-px={source_px}"] if source_px else [])]
        started = time.time()
        child = run_child([BENCHMARKS / "recipe_job.py", *arguments] if preset else plain, variables)
        seconds = {"saved_s": child.report["saved_at"] - started, "whole_s": child.whole_s}
        report = {**child.report, **seconds, "peak_bytes": child.peak_bytes}
        shutil.rmtree(cache)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, json.dumps(report, indent=2) + "\n")
    return report


def show_recipe(recipe: str, reports: Sequence[dict[str, Any]]) -> str:
    """One line: what a recipe scored over resplits."""
    right, photos = sum(r["right"] for r in reports), sum(r["photos"] for r in reports)
    kept = sum(not r["reverted"] for r in reports)
    return (
        f"  {recipe:14} right {right}/{photos} = {show_mean([100 * r['accuracy'] for r in reports], 1)} %"
        f"   log loss {show_mean([r['log_loss'] for r in reports], 4)}"
        f"   saved after {show_spread([r['saved_s'] for r in reports], 0)} s"
        f" (CPU to the end: {show_spread([r['cpu_s'] for r in reports], 0)} s)"
        f"   nothing put back in {kept} of {len(reports)}"
    )


def show_pair(first: str, second: str, of: dict[str, list[dict[str, Any]]]) -> str:
    """One line: paired differences of two recipes, with their intervals over resplits."""
    pairs = list(zip(of[first], of[second], strict=True))
    right = [100 * (a["accuracy"] - b["accuracy"]) for a, b in pairs]
    loss = [a["log_loss"] - b["log_loss"] for a, b in pairs]
    worse = sum(a["log_loss"] > b["log_loss"] for a, b in pairs)
    return (
        f"  {first} minus {second}: right {show_mean(right, 1)} points   log loss {show_mean(loss, 4)}"
        f"   higher log loss in {worse} of {len(pairs)}"
    )


def show_task(of: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The lines of one task in one variant."""
    yield from (show_recipe(recipe, reports) for recipe, reports in of.items())
    yield from (show_pair(first, second, of) for first, second in PAIRS if first in of and second in of)


def show_plain(data: Path, saved_s: Sequence[float]) -> str:
    """The plain Keras script's whole job, extrapolated, beside the times of felidae4-fast."""
    whole_s = run_plain("plain_keras.py", data, Effort(2, 20))[0].extrapolate()
    ratios = [whole_s / seconds for seconds in saved_s]
    return f"{PLAIN}: {whole_s:.0f} s for the whole job, extrapolated; felidae4-fast is sooner by {show_spread(ratios)}"


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="felidae4: a folder of train/, valid/ and test/")
    parser.add_argument("--task", action="append", default=[], metavar="NAME=DIR", help="another task of folders")
    parser.add_argument("--resplits", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="where results are kept")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--variants", default=VARIANTS, help="as-is, pxN, perN, pxN+perN; default: %(default)s")
    parser.add_argument("--only", metavar="NAME,…", help="these tasks only; that of --data is called felidae4")
    parser.add_argument("--plain", action="store_true", help="time the plain Keras script as well")
    asked = parser.parse_args()
    asked.recipes = parse_names(parser, "recipes", asked.recipes, tuple(RECIPES))
    return asked


def main() -> None:
    asked = parse_arguments()
    stop_children_too()
    print(describe_machine(), flush=True)
    tasks = {"felidae4": asked.data, **{name: Path(root) for name, root in (task.split("=", 1) for task in asked.task)}}
    only = asked.only.split(",") if asked.only else list(tasks)
    fast: list[float] = []
    for task in only:
        for variant in asked.variants.split(","):
            recipes = [r for r in asked.recipes if task == "felidae4" or not r.startswith("felidae4")]
            of: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in recipes}
            for resplit in range(asked.resplits):
                for recipe in recipes:  # interleaved, so that a busy machine slows all alike
                    of[recipe].append(run_cell(Cell(task, variant, resplit, recipe), tasks[task].resolve(), asked.out))
            print(f"\n{task}, {variant}, {asked.resplits} resplits", *show_task(of), sep="\n", flush=True)
            fast += [r["saved_s"] for r in of.get("felidae4-fast", []) if (task, variant) == ("felidae4", "as-is")]
    if asked.plain and fast:
        print("\n" + show_plain(asked.data.resolve(), fast))


if __name__ == "__main__":
    main()
