"""Real processes, killed and resumed, beside one that was not: what `kills.py` and the tests run.

One process imports TensorFlow and never uses it; every run is a fork of it, so that a case costs a second or two and not ten.
"""

from __future__ import annotations

import csv
import gc
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WALL_CLOCK = ("seconds", "images_per_s")

#: Configurations that the kills go round: every cache, both precisions, every callback, a solved stage, BatchNorm statistics that move.
VARIANTS: dict[str, tuple[str, ...]] = {
    "fp32, fresh views": ("cache.mode=exact", "insights={baselines: false, gradcam_photos: 0}"),
    "bf16, view bank, callbacks": (
        "cache={mode: bank, views: 2}",
        "precision=bfloat16",
        "stages[1].optimizer.schedule={name: one_cycle}",
        "stages[1].ema={decay: 0.9}",
        "stages[1].early_stopping={patience: 1}",
        "stages[1].interpolate=0.5",
        "stages[1].revert_unless_better=true",
    ),
    "fp32, no cache": ("cache.mode=off", "stages[1].train_batch_norm=true"),
    "bf16, no augmentation": ("augment=[]", "precision=bfloat16", "stages[1].early_stopping={monitor: val_accuracy}"),
    "fp32, solved first": (
        "stages[0]={kind: solve, name: probe, penalty: 1.0}",
        "stages[1].label_smoothing=0.1",
    ),
}

#: Moments that a kill is most likely to hurt at, in the order of a run.
MOMENTS: dict[str, dict[str, Any]] = {
    "before anything is read": {"at": "hook", "name": "before_run", "count": 1},
    "photos known, network not yet": {"at": "event", "name": "os.rename", "text": "environment.json", "count": 1},
    "in the first epoch": {"at": "step", "count": 2},
    "in the middle of the first checkpoint": {"at": "member", "count": 4},
    "checkpoint written, not in place": {"at": "event", "name": "os.rename", "text": "000-000002.npz", "count": 1},
    "checkpoint in place, log a line behind": {"at": "event", "name": "open", "text": "epochs.csv a", "count": 2},
    "between two stages": {"at": "hook", "name": "after_stage", "count": 1},
    "in an epoch of the second stage": {"at": "step", "count": 28},
    "while the model is put in place": {"at": "event", "name": "os.rename", "text": "model.npz", "count": 1},
    "test predictions written, scores not": {"at": "event", "name": "os.rename", "text": "metrics.json", "count": 1},
    "while a report is written": {"at": "event", "name": "os.rename", "text": "confusion_matrix", "count": 1},
    "after the last report": {"at": "hook", "name": "after_run", "count": 1},
}

#: Those of them that a few random seconds may well miss: a file is half written.
WORST = ("in the middle of the first checkpoint", "while a report is written")

PRESET = {
    "name": "tiny",
    "pixels": {"size_px": 8, "resize": "nearest"},
    "backbone": {"name": "killed"},
    "weights": {"mode": "random"},
    "head": {"name": "gap_dense", "units": 8},
    "augment": [{"name": "keras_generator", "zoom_range": 0.2, "horizontal_flip": True}],
    "train": {"batch_size": 5, "draws_per_epoch": 30, "validation_draws": 9},
    "stages": [
        {
            "name": "head",
            "epochs": 3,
            "freeze": {"name": "all"},
            "optimizer": {"learning_rate": 0.05, "momentum": 0.9},
        },
        {
            "name": "tune",
            "epochs": 3,
            "freeze": {"name": "first_n", "n": 3},
            "optimizer": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.01},
        },
    ],
    "reports": [{"name": "confusion_matrix"}],
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run that was killed.

    Attributes:
        variant: Key of `VARIANTS`.
        moment: Key of `MOMENTS`, or the second at which it was killed.
        kills: How often it was killed before it ended; 0 where it was over by then.
        is_cache_cleared: Whether the cache of features was deleted before it was resumed.
        status: What the folder said of itself after the first kill; None where there was no folder yet, or the run had ended.
        differences: What is not bit for bit as in the run that was not killed.
    """

    variant: str
    moment: str
    kills: int
    is_cache_cleared: bool
    status: str | None
    differences: tuple[str, ...]


@dataclass
class Bench:
    """A folder in which runs are killed.

    Attributes:
        folder: Empty.
        references: Variant → its run that was not killed, and the seconds it took.
    """

    folder: Path
    references: dict[str, tuple[Path, float]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Load what every child uses; nothing of TensorFlow is used here, since what it starts does not survive a fork."""
        os.environ.update(
            FINETUNEKIT_STATE=str(self.folder / "state"),
            FINETUNEKIT_CACHE=str(self.folder / "cache"),
            TF_CPP_MIN_LOG_LEVEL="2",
        )
        import tensorflow  # noqa: F401

        from finetunekit.engine.api import resume, run  # noqa: F401
        from finetunekit.testing import tiny_photos

        tiny_photos(self.folder / "photos")
        gc.freeze()

    def reference(self, variant: str) -> tuple[Path, float]:
        """The run that is not killed; the first of two, so that its seconds are those of a warm cache."""
        if variant not in self.references:
            name = f"reference-{list(VARIANTS).index(variant)}"
            started = time.monotonic()
            child = self._start(self._case(name, {}), variant)
            _must_end_well(child)
            took_s = time.monotonic() - started
            self.references[variant] = (_only_run(self.folder / name), took_s)
        return self.references[variant]

    def kill_at(self, variant: str, moment: str, *, clear_cache: bool) -> Outcome:
        """Kill one run at a named moment, resume it, compare it."""
        case = self._case(f"at-{list(MOMENTS).index(moment)}-{list(VARIANTS).index(variant)}", MOMENTS[moment])
        _, code = os.waitpid(self._start(case, variant), 0)
        if not os.WIFSIGNALED(code) or os.WTERMSIG(code) != signal.SIGKILL:
            return Outcome(variant, moment, 0, clear_cache, None, (f"was not killed: exit {code}",))
        return self._resume(case, variant, moment, [], clear_cache=clear_cache)

    def kill_randomly(self, number: int, chance: random.Random) -> Outcome:
        """Kill one run at a random second, sometimes again while it is resumed."""
        variant = list(VARIANTS)[number % len(VARIANTS)]
        _, whole_s = self.reference(variant)
        seconds = [chance.uniform(0, whole_s)]
        while chance.random() < 0.3:
            seconds.append(chance.uniform(0, whole_s))
        return self._kill_then_resume(f"random-{number}", variant, seconds, clear_cache=chance.random() < 0.25)

    def kill_in_part(self, part: int, parts: int, chance: random.Random) -> Outcome:
        """Kill one run once, at a random second of one of the equal parts of its time, so that no phase is left out."""
        variant = list(VARIANTS)[part % 2]
        _, whole_s = self.reference(variant)
        second = whole_s * (part + chance.random()) / parts
        return self._kill_then_resume(f"part-{part}", variant, [second], clear_cache=chance.random() < 0.25)

    def run_together(self, count: int) -> list[Outcome]:
        """Start several runs of one configuration at once, on a cache that holds nothing."""
        variant = list(VARIANTS)[1]
        reference, _ = self.reference(variant)
        shutil.rmtree(self.folder / "cache" / "features", ignore_errors=True)
        cases = [self._case(f"together-{number}", {}) for number in range(count)]
        children = [self._start(case, variant) for case in cases]
        for child in children:
            _must_end_well(child)
        found = [tuple(differences(reference, _only_run(case))) for case in cases]
        return [Outcome(variant, f"never, beside {count - 1} others", 0, True, None, one) for one in found]

    def _kill_then_resume(self, name: str, variant: str, seconds: Sequence[float], *, clear_cache: bool) -> Outcome:
        case = self._case(name, {})
        is_killed = _kill_after(self._start(case, variant), seconds[0])
        shown = ", ".join(f"{second:.2f} s" for second in seconds) + ("" if is_killed else " (over by then)")
        found = self._resume(case, variant, shown, seconds[1:], clear_cache=clear_cache)
        return replace(found, kills=found.kills - (not is_killed))

    # ---- parts -------------------------------------------------------------------------------------------------------------------

    def _resume(self, case: Path, variant: str, moment: str, again_s: Sequence[float], *, clear_cache: bool) -> Outcome:
        found = list((case / "runs").glob("[!.]*")) if (case / "runs").is_dir() else []
        status = _status(found[0]) if found else None
        if clear_cache:
            shutil.rmtree(self.folder / "cache" / "features", ignore_errors=True)
        kills = 1
        for seconds in again_s:
            kills += _kill_after(self._start(case, variant), seconds)
        _must_end_well(self._start(case, variant))
        reference, _ = self.reference(variant)
        outcome = Outcome(variant, moment, kills, clear_cache, status, tuple(differences(reference, _only_run(case))))
        if not outcome.differences:
            shutil.rmtree(case)
        return outcome

    def _case(self, name: str, moment: Mapping[str, Any]) -> Path:
        from finetunekit.config.yaml_source import dump_yaml

        case = self.folder / name
        case.mkdir()
        shutil.copy(HERE / "kill_plugin.py", case)
        if moment:
            (case / "kill.json").write_text(json.dumps(moment))
        data = {"source": "folders", "root": str(self.folder / "photos")}
        (case / "tiny.yaml").write_text(dump_yaml({**PRESET, "plugins": ["kill_plugin.py"], "data": data}))
        return case

    def _start(self, case: Path, variant: str) -> int:
        """A process that runs the case, or resumes it where it left a run folder."""
        return _fork(lambda: _work(case, variant), case / "said.txt")


def _work(case: Path, variant: str) -> None:
    from finetunekit.engine.api import resume, run
    from finetunekit.system.progress import Progress

    found = list((case / "runs").glob("[!.]*")) if (case / "runs").is_dir() else []
    if found:
        resume(found[0], progress=Progress())
    else:
        run(str(case / "tiny.yaml"), settings=VARIANTS[variant], out=case / "runs", progress=Progress())


def _fork(work: Callable[[], None], said: Path) -> int:
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        stream = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the child ends here, whatever happened
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _kill_after(child: int, seconds: float) -> bool:
    """Whether the process was still there to be killed."""
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, code = os.waitpid(child, 0)
    return os.WIFSIGNALED(code)


def _must_end_well(child: int) -> None:
    _, code = os.waitpid(child, 0)
    if code:
        raise SystemExit(f"a run that nothing killed ended with {code}; see said.txt in the folders left behind")


def _only_run(case: Path) -> Path:
    (path,) = (case / "runs").glob("[!.]*")
    return path


def _status(path: Path) -> str:
    from finetunekit.runs.folder import read_status

    return read_status(path)


def differences(reference: Path, other: Path) -> Iterator[str]:
    """What is not bit for bit the same in two finished runs; wall-clock figures and counts of openings are left out."""
    import numpy as np

    from finetunekit.system.array_files import read_arrays

    states = [json.loads((path / "run.json").read_text()) for path in (reference, other)]
    if states[1]["status"] != "finished":
        yield f"status {states[1]['status']}"
        return
    arrays = [read_arrays(path / "model.npz")[1] for path in (reference, other)]
    if arrays[0].keys() != arrays[1].keys():
        yield "names of weights"
    for name in arrays[0].keys() & arrays[1].keys():
        if not np.array_equal(arrays[0][name], arrays[1][name], equal_nan=True):
            yield f"weights {name}"
    for name, read in (("epochs.csv", _epochs), ("metrics.json", _metrics), ("predictions.csv", Path.read_bytes)):
        if read(reference / name) != read(other / name):
            yield name
    files = [{str(p.relative_to(path)) for p in path.rglob("*")} for path in (reference, other)]
    yield from (f"file {name}" for name in sorted(files[0] ^ files[1]))


def _epochs(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return [{k: v for k, v in row.items() if k not in WALL_CLOCK} for row in csv.DictReader(stream)]


def _metrics(path: Path) -> dict[str, Any]:
    metrics = json.loads(path.read_text())
    last = {k: v for k, v in metrics["last_epoch"].items() if k not in WALL_CLOCK}
    return {**{k: v for k, v in metrics.items() if k not in ("seconds", "openings")}, "last_epoch": last}
