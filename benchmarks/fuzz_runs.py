"""Run folders that a stranger sends: every verb on a finished run in which one file is not what a run writes.

    python benchmarks/fuzz_runs.py [--cases N] [--seed S] [--run RUN]

A case is a copy of a finished tiny run with one file changed (a value of its JSON replaced, dropped or nested deep, a cell, a few bytes,
the whole of it, a folder or a pipe in its place), and one verb. What may come of it: exit code 0, or an error whose lines are printable and
bounded. Anything else is a failure: exit code 70, a traceback, a case that takes more than 20 s of processor time or a gigabyte.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from common import new_parser
from fuzz_commands import fault
from fuzz_photos import mutate

from finetunekit.cli import main as finetunekit

MOST_BYTES = 2**30
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 60_000, 10**30, 1e308, "", "x", "x" * 5000, "../../gone", "\ud800", "\u202e\x1b[2J", "/dev/zero", [], {}, [[]],
    [None], {"": None}, {"name": "none"},
)  # fmt: skip
RAW = (
    b"",
    b"null",
    b"[]",
    b"5",
    b'"x"',
    b"{}",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 5000,
    b"{",
    b"NaN",
    b"9" * 5000,
    b"\0" * 100,
)
#: Verbs, and how many of a hundred cases each is given; RUN is the changed run, WHOLE one that is not.
VERBS = {
    "runs list": 10,
    "runs show RUN": 10,
    "report RUN": 12,
    "compare RUN WHOLE": 12,
    "compare WHOLE RUN": 5,
    "verify RUN": 10,
    "data stats RUN --headers": 6,
    "data split RUN --replace": 6,
    "data audit RUN/config.yaml": 2,
    "data changes RUN": 4,
    "predict RUN photos/test": 8,
    "evaluate RUN --data photos/test": 6,
    "track RUN": 4,
    "export RUN --to savedmodel": 1,
    "runs prune --keep 9": 2,
    "resume RUN": 2,
}


def changed_json(text: bytes, rng: random.Random) -> bytes:
    """A JSON text with one value replaced, dropped, nested or repeated; or something else altogether."""
    if rng.random() < 0.1:
        return rng.choice(RAW)
    content = json.loads(text)
    places = list(_places(content))
    if not places:
        return rng.choice(RAW)
    owner, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del owner[key]
    elif kind == 1:
        owner[key] = [owner[key]]
    elif kind == 2:
        owner[key] = {"x": owner[key]}
    elif kind == 3 and isinstance(owner[key], list):
        owner[key] = owner[key] * 3
    else:
        owner[key] = rng.choice(VALUES)
    return json.dumps(content).encode()


def _places(value: Any) -> Any:
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def change(path: Path, rng: random.Random) -> None:
    """Change one file of a run."""
    kind = rng.random()
    if kind < 0.04:
        path.unlink()
        rng.choice((path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path.name), lambda: None))()
    elif path.suffix == ".json" and kind < 0.9:
        path.write_bytes(changed_json(path.read_bytes(), rng))
    elif kind < 0.95:
        path.write_bytes(mutate(path.read_bytes(), rng))
    else:
        path.write_bytes(rng.choice(RAW))


def make_run(scratch: Path) -> Path:
    """A finished run of a tiny network on tiny photos."""
    from kill_cases import HERE, PRESET

    import finetunekit as ftk
    from finetunekit.config.yaml_source import dump_yaml
    from finetunekit.system.progress import Progress
    from finetunekit.testing import tiny_photos

    tiny_photos(scratch / "photos")
    preset = {**PRESET, "plugins": [str(HERE / "kill_plugin.py")], "data": {"root": str(scratch / "photos")}}
    (scratch / "tiny.yaml").write_text(dump_yaml(preset), encoding="utf-8")
    return ftk.run(scratch / "tiny.yaml", out=scratch / "whole", progress=Progress(is_quiet=True)).path


def try_case(whole: Path, work: Path, rng: random.Random) -> tuple[str, str | None]:
    """One changed file and one verb; how it ended, and what is wrong with that."""
    run = work / "runs" / whole.name
    shutil.rmtree(work / "runs", ignore_errors=True)
    shutil.copytree(whole, run)
    files = sorted(
        path for path in run.rglob("*") if path.is_file() and path.name != "run.lock" and "reports" not in path.parts
    )
    weights = [6 if path.suffix == ".json" else 1 for path in files]
    chosen = rng.choices(files, weights)[0]
    change(chosen, rng)
    verb = rng.choices(list(VERBS), list(VERBS.values()))[0]
    line = [re.sub(r"^RUN\b", str(run), word).replace("WHOLE", str(whole)) for word in verb.split()]
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    result = CliRunner().invoke(finetunekit, line, prog_name="finetunekit")
    wrong = fault(result, time.process_time() - started)
    if (more := 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)) > MOST_BYTES:
        wrong = f"took {more / 1e6:.0f} MB"
    told = f"{verb} with another {chosen.relative_to(run)}"
    return ("refused" if result.exit_code else "usable"), f"{told}: {wrong}" if wrong else None


def run_cases(
    count: int, seed: int, scratch: Path, whole: Path | None = None, keep: Path | None = None
) -> tuple[Counter[str], list[str]]:
    """How the cases ended, and what was wrong with those that failed."""
    os.environ |= {"FINETUNEKIT_CACHE": str(scratch / "cache"), "FINETUNEKIT_STATE": str(scratch / "state")}
    whole = whole or make_run(scratch)
    rng, counted, failures = random.Random(seed), Counter[str](), []
    os.chdir(scratch)
    for number in range(count):
        ended, wrong = try_case(whole, scratch, rng)
        counted["failed" if wrong else ended] += 1
        if wrong:
            failures.append(f"case {number}: {wrong}")
            print(failures[-1], file=sys.stderr, flush=True)
            if keep:
                shutil.copytree(
                    scratch / "runs", keep / f"run-{seed}-{number}", symlinks=True, ignore_dangling_symlinks=True
                )
    return counted, failures


def main() -> None:
    """Try every case, and say how it went."""
    parser = new_parser(__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help="a finished run; default: a tiny one is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        whole = options.run.resolve() if options.run else None
        counted, failures = run_cases(options.cases, options.seed, Path(scratch), whole)
        os.chdir("/")
    print(
        f"{counted.total()} run folders: {counted['usable']} usable, {counted['refused']} refused, {len(failures)} failed"
    )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
