"""What was published and what comes out: felidae4 and every preset over it, on photos as they are and shrunk to 75 px first, over seeds.

    python benchmarks/reproduce.py --data DIR --out DIR [--seeds N | 0,1,2 | 10-19] [--presets A,B] [--sources full,75]
        [--shared-views] [--epochs N]
    python benchmarks/reproduce.py --data DIR --out DIR --table

Each run is one whole `finetunekit run` in a process of its own, without baselines, Grad-CAM, pixel check and reports, which change
no score; its test split is opened, once a configuration and seed. Finished runs in OUT are known by their configuration and seed
and never run again; one that was killed is taken up at its last epoch. Presets that are one configuration under two names are run
once. --table prints the Markdown table of docs/reproduction.md from what is there and runs nothing; what is not measured says so.
--shared-views: all seeds share one set of augmented views (view_seed 0), whose features are then computed once for each preset and
source. The spread over seeds leaves out what the choice of views adds, and the table says so. Where a preset draws fresh views, as
felidae4-exact does, it is given a bank of FRESH_VIEWS, more than any photo is drawn in a run, so that no view comes twice.

--epochs cuts the training short, for a look at the machine: such figures are another experiment, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import cache
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

from finetunekit import FinishedRun
from finetunekit.config.planning import prepare
from finetunekit.config.sections import Expected
from finetunekit.config.yaml_source import read_yaml
from finetunekit.experiments.ablation.layout import identity_of
from finetunekit.experiments.ablation.running import cell_key
from finetunekit.experiments.run_group import known_runs
from finetunekit.experiments.seeds_summary import summarise_runs
from finetunekit.statistics import wilson_interval
from finetunekit.system.formatting import show_duration, show_percent, show_range
from finetunekit.system.progress import Progress


def is_variant(name: str) -> bool:
    """Whether a preset goes over the experiment's own."""
    return read_yaml(PRESET.parent / f"{name}.yaml", name)[0].get("extends") == PRESET.stem


PRESETS = tuple(sorted(path.stem for path in PRESET.parent.glob("felidae4*.yaml")))
EXPERIMENT = tuple(name for name in PRESETS if name == PRESET.stem or is_variant(name))
"""The experiment and what goes over it; other recipes for its photos can be named with --presets."""
SOURCES: Mapping[str, int | None] = {"full": None, "75": 75}
"""What photos are shrunk to first; 75 px is the long side of the experiment's own. Source: docs/experiment.md."""
NOT_MEASURED = "not measured yet"


@cache
def draws_fresh_views(name: str) -> bool:
    """Whether a preset makes the augmented views of each epoch anew."""
    return prepare(PRESET.parent / f"{name}.yaml", progress=Progress(is_quiet=True))[0].config.cache.mode == "exact"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run that is asked for.

    Attributes:
        preset: Name in presets/.
        source: Of `SOURCES`.
        seed: Of the run.
        epochs: Of its only stage; None: the preset's own.
        data: Folder of the splits.
        is_shared: Whether all seeds share one set of views.
    """

    preset: str
    source: str
    seed: int
    epochs: int | None
    data: str
    is_shared: bool = False

    @property
    def path(self) -> Path:
        """The preset's file."""
        return PRESET.parent / f"{self.preset}.yaml"

    @property
    def settings(self) -> tuple[str, ...]:
        """Over the preset's."""
        return (
            f"data.root={json.dumps(self.data)}",
            "data.audit={gate: warn}",
            f"pixels.source_px={json.dumps(SOURCES[self.source])}",
            "pixels.check_photos=0",
            "insights={baselines: false, gradcam_photos: 0}",
            "save.h5=false",
            "reports=[]",
            *(self._shared_views() if self.is_shared else ()),
            *(() if self.epochs is None else (f"stages[0].epochs={self.epochs}",)),
        )

    def _shared_views(self) -> tuple[str, ...]:
        fresh = (f"cache={{mode: bank, views: {FRESH_VIEWS}}}",) if draws_fresh_views(self.preset) else ()
        return ("view_seed=0", *fresh)


def plan_trials(
    presets: Sequence[str],
    sources: Sequence[str],
    seeds: Sequence[int],
    *,
    epochs: int | None,
    data: Path,
    is_shared: bool = False,
) -> list[Trial]:
    """Every run asked for: everything with one seed before the next, so that the table is whole early."""
    return [
        Trial(preset, source, seed, epochs, str(data), is_shared)
        for seed in seeds
        for source in sources
        for preset in presets
    ]


def identify(trials: Sequence[Trial]) -> dict[Trial, tuple[str, int]]:
    """What tells the run of each trial from others, see `identity_of`."""
    found: dict[Trial, tuple[str, int]] = {}
    known: dict[tuple[str, str], str] = {}
    for trial in trials:
        key = (trial.preset, trial.source)
        if key not in known:
            plan, _ = prepare(trial.path, settings=trial.settings, progress=Progress(is_quiet=True))
            known[key] = identity_of(plan.to_dict())
        found[trial] = (known[key], trial.seed)
    return found


def find_finished(trials: Sequence[Trial], out: Path) -> dict[Trial, FinishedRun]:
    """Trials whose run is there and finished."""
    there = known_runs(out, cell_key)
    found = {}
    for trial, key in identify(trials).items():
        if key in there and (run := FinishedRun(there[key])).state.get("status") == "finished":
            found[trial] = run
    return found


def run_one(trial: Trial, out: Path) -> None:
    """The child's part: one run, its folder's name on the last line."""
    from finetunekit.engine.api import resume, run
    from finetunekit.runs.folder import drop_model

    earlier = known_runs(out, cell_key).get(identify([trial])[trial])
    with redirect_stdout(sys.stderr):
        result = resume(earlier) if earlier else run(trial.path, settings=trial.settings, seed=trial.seed, out=out)
        drop_model(result.path)
    print(json.dumps({"run": result.path.name}))


def run_missing(trials: Sequence[Trial], out: Path) -> None:
    """Run what is not there yet, one at a time."""
    keys = identify(trials)
    finished = {keys[trial]: run for trial, run in find_finished(trials, out).items()}
    missing = list({keys[trial]: trial for trial in reversed(trials) if keys[trial] not in finished}.values())[::-1]
    seconds = [float(run.metrics["seconds"]["whole"]) for run in finished.values()]
    print(f"{len(set(keys.values()))} runs asked for, {len(missing)} to do", file=sys.stderr)
    for number, trial in enumerate(missing):
        left = f", about {show_duration(statistics.fmean(seconds) * (len(missing) - number))} left" if seconds else ""
        said = f"{number + 1} of {len(missing)}: {trial.preset}, photos {trial.source}, seed {trial.seed}{left}"
        print(said, file=sys.stderr, flush=True)
        seconds.append(run_trial_child("reproduce.py", asdict(trial), out).whole_s)


def render_table(trials: Sequence[Trial], finished: Mapping[Trial, FinishedRun]) -> str:
    """What was published and what came out, as Markdown, one row a preset and source."""
    head = ("preset", "photos", "published", "came out", "accuracy", "95 %, over photos", "95 %, over seeds")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for preset, source in dict.fromkeys((trial.preset, trial.source) for trial in trials):
        of_row = [trial for trial in trials if (trial.preset, trial.source) == (preset, source)]
        found = [finished[trial] for trial in of_row if trial in finished]
        cells = [f"`{preset}`", _source_words(source), published_words(of_row[0]), *_came_out(found)]
        lines.append("| " + " | ".join(cells) + " |")
    if any(trial.is_shared for trial in trials):
        lines += [
            "",
            "All seeds share one set of augmented views: their spread leaves out what the choice of views adds.",
        ]
    cut = sorted({trial.epochs for trial in trials if trial.epochs is not None} - {EPOCHS})
    if cut:
        shown = ", ".join(map(str, cut))
        lines += ["", f"Epochs cut to {shown}: another experiment than the published one."]
    return "\n".join(lines)


def _source_words(source: str) -> str:
    return "as they are" if SOURCES[source] is None else f"{SOURCES[source]} px"


def published_words(trial: Trial) -> str:
    """What is published of a preset, with its denominator where it is known."""
    plan, _ = prepare(trial.path, settings=trial.settings, progress=Progress(is_quiet=True))
    expected: Expected | None = plan.config.expected
    if expected is None:
        return "no figure"
    if expected.correct is None or expected.photos is None:
        return f"about {100 * expected.value:.0f} %, photos not given"
    interval = wilson_interval(expected.correct, expected.photos)
    return f"{expected.correct} of {expected.photos} ({show_percent(expected.value)}; {show_range(interval)})"


def _came_out(found: Sequence[FinishedRun]) -> list[str]:
    if not found:
        return [NOT_MEASURED, *["–"] * 3]
    summary = summarise_runs([run.metrics for run in found])
    counts = ", ".join(str(run["correct"]) for run in summary["runs"])
    whole, spread = summary["over_photos"]["accuracy"], summary["over_seeds"]["accuracy"]
    stand_in = " (stand-in photos)" if summary["stand_in"] else ""
    return [
        f"{counts} of {summary['photos']}{stand_in}",
        show_percent(whole["mean"]),
        show_range(whole["interval"]),
        "–" if spread is None else show_range(spread["interval"]),
    ]


def parse_arguments() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help=SPLITS_HELP)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs")
    parser.add_argument("--presets", default=",".join(EXPERIMENT), help=f"any of {', '.join(PRESETS)}")
    parser.add_argument("--sources", default=",".join(SOURCES), help="full, 75, or both")
    parser.add_argument("--epochs", type=int, help="instead of the preset's own 50")
    add_trial_options(parser, Trial)
    asked = parser.parse_args()
    asked.presets = parse_names(parser, "presets", asked.presets, PRESETS)
    asked.sources = parse_names(parser, "sources", asked.sources, tuple(SOURCES))
    if not (asked.data / "test").is_dir():
        parser.error(f"--data: {asked.data} holds no folder test/")
    return asked


def main() -> None:
    asked = parse_arguments()
    if asked.one:
        run_one(asked.one, asked.out)
        return
    trials = plan_trials(
        asked.presets,
        asked.sources,
        asked.seeds,
        epochs=asked.epochs,
        data=asked.data.resolve(),
        is_shared=asked.shared_views,
    )
    run_trials(asked, trials, run_missing)
    print(render_table(trials, find_finished(trials, asked.out)))


if __name__ == "__main__":
    main()
