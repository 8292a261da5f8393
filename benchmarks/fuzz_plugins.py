"""What a plugin returns that no hook allows: data sources, heads, freezing policies, augmentations and reporters.

    python benchmarks/fuzz_plugins.py [--cases N] [--seed S]

A case is one component whose builder returns a value of another kind, of another shape, with a field that is something else, or one whose
text raises, where the engine asks for it. What may come of it: the value is used, or a deliberate error of bounded, printable lines.
"""

from __future__ import annotations

import dataclasses
import os
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import new_parser

from finetunekit.config.plan import Chosen, Plan
from finetunekit.errors import FinetuneKitError
from finetunekit.system.progress import Progress
from finetunekit.types import PhotoListing, PhotoRecord

QUIET = Progress(is_quiet=True)
LONGEST_LINE = 2_100


class Unprintable:
    """A value that says nothing of itself, and equals nothing."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no answer")

    __hash__ = None  # type: ignore[assignment]


class OwnText(str):
    """A text of a kind of its own."""


def junk(rng: random.Random) -> Any:
    """A value that nobody expects."""
    values = (
        None, True, 0, -1, 10**400, float("nan"), "", "x" * 100_000, "\ud800", "\u202e\x1b[2J\0", b"x", [], {}, (), set(), object,
        lambda *_: None, Path("\0"), Path("x" * 5000), {"a": Unprintable()}, [Unprintable()], Unprintable(), OwnText("train"), iter(()),
        range(10**9),
    )  # fmt: skip
    return rng.choice(values)


def a_listing(rng: random.Random, photos: Path) -> Any:
    """A listing of real photos, in which something is something else."""
    files = sorted(photos.rglob("*.png"))
    records: list[Any] = [PhotoRecord(path, path.parent.name, path.parts[-3]) for path in files]
    values: dict[str, Any] = {"photos": tuple(records), "root": photos, "stand_in": None, "notes": ("a note",)}
    kind = rng.randrange(5)
    if kind == 0:
        return junk(rng)
    if kind == 1:
        values[rng.choice(list(values))] = junk(rng)
    elif kind == 2:
        values["notes"] = (junk(rng),)
    elif kind == 3:
        at, name = rng.randrange(len(records)), rng.choice(("path", "label", "split", "group"))
        records[at] = dataclasses.replace(records[at], **{name: junk(rng)})
        values["photos"] = tuple(records)
    else:
        records[rng.randrange(len(records))] = junk(rng)
        values["photos"] = tuple(records)
    return PhotoListing(**values)


def a_report(rng: random.Random) -> Any:
    """Files of a report, one of which is none."""
    name = rng.choice(
        (
            "a.html",
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "\0",
            "\ud800",
            "x" * 300,
            "\u202e.html",
            ".x",
            "con",
            "a\nb",
            "~",
            "a.html/",
        )
    )
    return rng.choice((junk(rng), {name: b"x"}, {"a.html": junk(rng)}, {name: "x"}, {"a.txt": b"x" * 10}))


def a_decision(rng: random.Random, layers: list[str]) -> Any:
    """A rate for each layer, one of which is none."""
    decision: dict[Any, Any] = dict.fromkeys(layers, 1.0)
    kind = rng.randrange(4)
    if kind == 0:
        return junk(rng)
    if kind == 1:
        decision[rng.choice(layers)] = rng.choice((junk(rng), -1.0, float("inf"), "1", 1e308))
    elif kind == 2:
        decision.pop(rng.choice(layers))
    else:
        decision["none such"] = 1.0
    return decision


class Bench:
    """A tiny plan, its run, and its network, which cases change in one place."""

    def __init__(self, scratch: Path) -> None:
        from fuzz_runs import make_run

        from finetunekit.config.planning import prepare
        from finetunekit.models.classifier import build_classifier

        os.environ |= {"FINETUNEKIT_CACHE": str(scratch / "cache"), "FINETUNEKIT_STATE": str(scratch / "state")}
        self.scratch, self.run = scratch, make_run(scratch)
        self.plan: Plan = prepare(scratch / "tiny.yaml")[0]
        self.classifier = build_classifier(self.plan.network, 3, "float32")

    def kinds(self) -> dict[str, Callable[[random.Random], None]]:
        """Name of each kind of case → the case."""
        return {
            "source": self.source,
            "reporter": self.reporter,
            "freezing": self.freezing,
            "augmentation": self.augmentation,
            "head": self.head,
        }

    def source(self, rng: random.Random) -> None:
        """One case of a data source."""
        from finetunekit.data.listing import index_listing, list_photos

        value = a_listing(rng, self.scratch / "photos")
        plan = dataclasses.replace(self.plan, data_source=returning(self.plan.data_source, value))
        index_listing(plan, list_photos(plan, QUIET), QUIET)

    def reporter(self, rng: random.Random) -> None:
        """One case of a reporter."""
        from finetunekit.engine.write_reports import write_reports

        before = {path for path in self.scratch.rglob("*") if "reports" not in path.parts}
        write_reports((returning(self.plan.reports[0], a_report(rng)),), self.run, QUIET)
        if {path for path in self.scratch.rglob("*") if "reports" not in path.parts} != before:
            raise AssertionError("a file outside the reports")

    def freezing(self, rng: random.Random) -> None:
        """One case of a freezing policy."""
        from finetunekit.models.freezing import freeze_layers, leaf_layers

        layers = [path for path, _ in leaf_layers(self.classifier.backbone.model)]
        stage = self.plan.stages[0]
        assert stage.freeze is not None
        changed = dataclasses.replace(stage, freeze=returning(stage.freeze, a_decision(rng, layers)))
        freeze_layers(self.classifier, changed)

    def augmentation(self, rng: random.Random) -> None:
        """One case of a augmentation."""
        from finetunekit.plugins.components import impurity_notes

        value = rng.choice((junk(rng), (junk(rng),), [junk(rng)]))
        impurity_notes(dataclasses.replace(self.plan, augment=(returning(self.plan.augment[0], value),)))

    def head(self, rng: random.Random) -> None:
        """One case of a head."""
        from finetunekit.models.classifier import build_classifier

        build_classifier(
            dataclasses.replace(self.plan.network, head=returning(self.plan.head, junk(rng))), 3, "float32"
        )


def returning(chosen: Chosen, value: Any) -> Chosen:
    """A component whose builder returns this."""
    return dataclasses.replace(chosen, registered=dataclasses.replace(chosen.registered, build=lambda *_: value))


def outcome(case: Callable[[random.Random], None], rng: random.Random) -> str:
    """`used`, `refused`, or what went wrong."""
    try:
        case(rng)
    except FinetuneKitError as exc:
        lines = str(exc).split("\n")
        is_clear = all(len(line) <= LONGEST_LINE for line in lines)
        return "refused" if is_clear else f"a line of {max(map(len, lines))} letters"
    except BaseException as exc:  # noqa: BLE001 (whatever comes is what this looks for)
        return "".join(traceback.format_exception(exc)[-4:])
    return "used"


def run_cases(count: int, seed: int, scratch: Path) -> tuple[Counter[str], dict[str, str]]:
    """How cases ended, and one example of each way to fail."""
    bench, rng = Bench(scratch), random.Random(seed)
    counted, failures = Counter[str](), dict[str, str]()
    kinds = bench.kinds()
    for number in range(count):
        name = list(kinds)[number % len(kinds)]
        found = outcome(kinds[name], rng)
        counted[found if found in ("used", "refused") else "failed"] += 1
        if found not in ("used", "refused"):
            failures.setdefault(f"{name}: {found[-160:]}", f"case {number}, {name}: {found}")
    return counted, failures


def main() -> None:
    """Try every case, and say how it went."""
    parser = new_parser(__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        counted, failures = run_cases(options.cases, options.seed, Path(scratch))
    for failure in failures.values():
        print(failure, file=sys.stderr)
    print(
        f"{counted.total()} answers of plugins: {counted['used']} used, {counted['refused']} refused, {counted['failed']} failed"
    )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
