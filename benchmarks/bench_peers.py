"""Our recipes beside fastai's, a timm loop's, the Keras guide's and a plain timm probe, from the same weights on the same splits.

    python -m venv peers && peers/bin/pip install torch torchvision timm fastai scikit-learn
    python benchmarks/bench_peers.py --peers-python peers/bin/python --task NAME=DIR [--task ...] --out DIR [--variants per20,per100]
        [--resplits 5] [--contestants A,B] [--table]

The first line makes an environment that finetunekit does not need. On Linux, PyTorch's CPU builds from its own package index are smaller.
Contestants are `plain_timm.py` (probe and loop), `plain_fastai.py` (with its test-time augmentation as well) and `plain_keras_guide.py`,
which say what they do, and the presets `fast`, `small-data` and `best`. All start from the EfficientNet-Lite0 that finetunekit keeps; the
peers compare their network's features of eight photos with ours and stop where they differ by more than 1e-4 of the largest. `small-data`
and `best` join a second network to it.

Resplits are those of `bench_recipes.py`: `per20` has 20 training photos of each class and a third as many for validation, test photos stay
the same. Each contestant on each resplit is a process of its own, in turns. Times are from the start of the process to the saved model;
CPU time goes on to the end of scoring; memory is the largest of the process or one of its workers. What is done is kept in --out, and a
second call goes on where the first was stopped; --resplits 3-3 and --contestants run a part, --table prints what is there. Differences are
over the resplits that both have. Intervals are Student's t over resplits, which share photos, so that they are somewhat too narrow.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_recipes import Cell, kept_file, run_cell, write_cell_table
from common import (
    BENCHMARKS,
    describe_machine,
    new_parser,
    parse_names,
    parse_seeds,
    run_child,
    show_spread,
    stop_children_too,
)
from recipe_splits import show_mean

from finetunekit.system.files import write_whole

#: Peer → its script, arguments, and whether it runs in the environment of `--peers-python`.
PEERS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "timm-probe": ("plain_timm.py", ("probe",), True),
    "timm-loop": ("plain_timm.py", ("tune",), True),
    "fastai": ("plain_fastai.py", (), True),
    "keras-guide": ("plain_keras_guide.py", (), False),
}
OURS = ("fast", "small-data", "best")
AUGMENTED = "fastai-tta"
Reports = dict[int, dict[str, Any]]


def find_arrays() -> Path:
    """The arrays of EfficientNet-Lite0, fetched where they are missing."""
    from finetunekit_efficientnet_lite import SPECS
    from finetunekit_efficientnet_lite.network import LITE0

    from finetunekit.models.weights import resolve_weights

    return resolve_weights(LITE0.name, SPECS[LITE0], explicit=None, say=lambda line: print(line, file=sys.stderr)).path


def write_check(table: Path, file: Path) -> None:
    """Write eight photos as our network sees them, and its features of them."""
    import numpy as np
    from plain_probe import build_network, load_square, read_table

    photos = np.stack([load_square(path) for path in read_table(table)[1]["test"].paths[:8]])
    np.savez(file, photos=photos, features=build_network().predict_on_batch(photos))


class Bench:
    """Runs cells and keeps their reports in a folder."""

    def __init__(self, tasks: Mapping[str, Path], out: Path, python: Path | None) -> None:
        self.tasks, self.out, self.python = tasks, out, python

    def kept(self, cell: Cell) -> Path:
        """Where a cell's report is or will be."""
        return kept_file(cell, self.out) if cell.recipe in OURS else self.out / "peers" / f"{cell.name}.json"

    def run(self, cell: Cell) -> None:
        """Run what is missing."""
        if self.kept(cell).is_file():
            return
        if cell.recipe in OURS:
            run_cell(cell, self.tasks[cell.task], self.out)
        else:
            self._run_peer(cell)

    def _run_peer(self, cell: Cell) -> None:
        script, arguments, is_apart = PEERS[cell.recipe]
        table = write_cell_table(cell, self.tasks[cell.task], self.out)
        asked = [BENCHMARKS / script, *arguments, table, f"--seed={cell.resplit}"]
        if is_apart:
            asked += [f"--arrays={find_arrays()}", f"--check={self._check(table)}"]
        started = time.time()
        child = run_child(asked, python=self.python if is_apart and self.python else sys.executable)
        seconds = {"saved_s": child.report["saved_at"] - started, "whole_s": child.whole_s}
        self.kept(cell).parent.mkdir(exist_ok=True)
        report = {**child.report, **seconds, "peak_bytes": child.peak_bytes}
        write_whole(self.kept(cell), json.dumps(report, indent=2) + "\n")

    def _check(self, table: Path) -> Path:
        file = self.out / "check.npz"
        if not file.is_file():
            run_child([BENCHMARKS / "bench_peers.py", "--out", self.out, "--write-check", table])
        return file

    def reports(self, task: str, variant: str, recipe: str, resplits: Sequence[int]) -> Reports:
        """Resplit → report, of those that there are."""
        of = "fastai" if recipe == AUGMENTED else recipe
        files = {resplit: self.kept(Cell(task, variant, resplit, of)) for resplit in resplits}
        found = {resplit: json.loads(file.read_text("utf-8")) for resplit, file in files.items() if file.is_file()}
        if recipe == AUGMENTED:
            return {resplit: {**report, **report["augmented"]} for resplit, report in found.items()}
        return found


def show_contestant(name: str, reports: Reports) -> str:
    """One line: scores, times and memory."""
    found = list(reports.values())
    right, photos = sum(r["right"] for r in found), sum(r["photos"] for r in found)
    return (
        f"  {name:12} n {len(found)}   right {right}/{photos} = {show_mean([100 * r['accuracy'] for r in found], 1)} %"
        f"   log loss {show_mean([r['log_loss'] for r in found], 4)}"
        f"   saved after {show_spread([r['saved_s'] for r in found], 0)} s"
        f"   CPU {show_spread([r['cpu_s'] for r in found], 0)} s"
        f"   {show_spread([r['peak_bytes'] / 1e9 for r in found])} GB"
    )


def show_pair(ours: str, peer: str, of: Mapping[str, Reports]) -> str:
    """One line: one of ours beside a peer, over the resplits that both have."""
    pairs = [(of[ours][i], of[peer][i]) for i in of[ours] if i in of[peer]]
    right = [100 * (a["accuracy"] - b["accuracy"]) for a, b in pairs]
    loss = [a["log_loss"] - b["log_loss"] for a, b in pairs]
    ratio = statistics.mean(a["log_loss"] for a, _ in pairs) / statistics.mean(b["log_loss"] for _, b in pairs)
    return (
        f"  {ours} minus {peer}, n {len(pairs)}: right {show_mean(right, 1)} points   log loss {show_mean(loss, 4)}, {ratio:.2f} x,"
        f" higher in {sum(value > 0 for value in loss)}"
        f"   saved in {show_spread([a['saved_s'] / b['saved_s'] for a, b in pairs], 2)} x its time"
        f"   CPU {show_spread([a['cpu_s'] / b['cpu_s'] for a, b in pairs], 2)} x"
    )


def show_task(of: Mapping[str, Reports]) -> Iterator[str]:
    """The lines of one task in one variant."""
    yield from (show_contestant(name, reports) for name, reports in of.items() if reports)
    for ours in (name for name in of if name in OURS):
        for peer in (name for name in of if name not in OURS):
            if of[ours].keys() & of[peer].keys():
                yield show_pair(ours, peer, of)
    apart = [r["features_apart"] for reports in of.values() for r in reports.values() if "features_apart" in r]
    if apart:
        yield f"  the peers' features differ from ours by at most {max(apart):.1e} of the largest"


def show_versions(python: Path) -> str:
    """What the peers' environment has."""
    names = ("torch", "timm", "fastai", "scikit-learn")
    code = f"import json; from importlib.metadata import version as v; print(json.dumps([n + ' ' + v(n) for n in {names}]))"
    return ", ".join(run_child(["-c", code], python=python).report)


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    known = (*PEERS, *OURS)
    parser.add_argument("--task", action="append", default=[], metavar="NAME=DIR", help="a task of class folders")
    parser.add_argument("--out", type=Path, required=True, help="where results are kept")
    parser.add_argument("--peers-python", type=Path, help="interpreter of an environment with torch, timm and fastai")
    parser.add_argument("--variants", default="per20,per100", help="perN, as-is; default: %(default)s")
    parser.add_argument("--resplits", type=parse_seeds, default=tuple(range(5)), help="how many, or which: 0,1 or 2-4")
    parser.add_argument("--contestants", default=",".join(known))
    parser.add_argument("--table", action="store_true", help="print from what is there, run nothing")
    parser.add_argument("--write-check", type=Path, metavar="TABLE", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.contestants = parse_names(parser, "contestants", asked.contestants, known)
    asked.tasks = {name: Path(root).resolve() for name, root in (task.split("=", 1) for task in asked.task)}
    is_apart = any(PEERS[name][2] for name in asked.contestants if name in PEERS)
    if is_apart and not (asked.peers_python or asked.table or asked.write_check):
        parser.error("--peers-python is missing: the interpreter of an environment with torch, timm and fastai")
    return asked


def main() -> None:
    asked = parse_arguments()
    if asked.write_check:
        write_check(asked.write_check, asked.out / "check.npz")
        print("{}")
        return
    stop_children_too()
    asked.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(asked.tasks, asked.out.resolve(), asked.peers_python)
    if not asked.table:
        print(
            describe_machine(),
            *([show_versions(asked.peers_python)] if asked.peers_python else []),
            sep="\n",
            flush=True,
        )
        run_missing(bench, asked)
    shown = [n for name in asked.contestants for n in ((name, AUGMENTED) if name == "fastai" else (name,))]
    for task in asked.tasks:
        for variant in asked.variants.split(","):
            of = {name: bench.reports(task, variant, name, asked.resplits) for name in shown}
            print(f"\n{task}, {variant}", *show_task(of), sep="\n", flush=True)


def run_missing(bench: Bench, asked: argparse.Namespace) -> None:
    """Run all cells, resplit after resplit, so that a busy machine slows all contestants alike."""
    for resplit in asked.resplits:
        for task in asked.tasks:
            for variant in asked.variants.split(","):
                for name in asked.contestants:
                    bench.run(Cell(task, variant, resplit, name))


if __name__ == "__main__":
    main()
