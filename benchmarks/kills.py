"""Kill runs and resume them: do they end with the same bits?

    python benchmarks/kills.py --moments            at each moment that a kill is most likely to hurt
    python benchmarks/kills.py --kills 200          at random seconds, some of them more than once
    python benchmarks/kills.py --parts 10           at one random second of each tenth of a run, and at the two worst moments
    python benchmarks/kills.py --together 10        not at all: ten runs at once that share one cold cache

Every kill is a SIGKILL of a real process. Prints for each run what is not as in the run that was not killed (weights, history, scores,
predictions, files), then the count; ends with 1 if there is any.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from common import new_parser
from kill_cases import MOMENTS, VARIANTS, WORST, Bench, Outcome


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--moments", action="store_true", help="kill once at each named moment")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="kill N runs at random seconds")
    parser.add_argument("--parts", type=int, default=0, metavar="N", help="kill once in each of N parts of a run")
    parser.add_argument("--together", type=int, default=0, metavar="N", help="N runs at once on one cold cache")
    parser.add_argument("--seed", type=int, help="of the random seconds; default: another one each time, which is said")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--json", action="store_true", help="print every outcome as JSON")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="finetunekit-kills-"))
    bench = Bench(folder)
    bench.prepare()
    outcomes = list(run_all(bench, arguments))
    bad = [outcome for outcome in outcomes if outcome.differences]
    if arguments.json:
        print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=1))
    else:
        kills = sum(outcome.kills for outcome in outcomes)
        print(
            f"{len(outcomes)} runs, {kills} kills: {len(outcomes) - len(bad)} ended with the same bits, {len(bad)} did not"
        )
    if bad:
        sys.exit(f"left behind: {folder}")
    shutil.rmtree(folder)


def run_all(bench: Bench, arguments: argparse.Namespace) -> Iterator[Outcome]:
    """Every outcome asked for, as it comes."""
    stop_at = time.monotonic() + 60 * arguments.minutes
    variants = list(VARIANTS)[:2]
    named = MOMENTS if arguments.moments else WORST if arguments.parts else ()
    for i, moment in enumerate(named):
        yield told(bench.kill_at(variants[i % len(variants)], moment, clear_cache=i % 3 == 0))
    for outcome in bench.run_together(arguments.together) if arguments.together else ():
        yield told(outcome)
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"random seconds: --seed {seed}", file=sys.stderr)
    chance = random.Random(seed)
    for part in range(arguments.parts):
        yield told(bench.kill_in_part(part, arguments.parts, chance))
    for number in range(arguments.kills):
        if time.monotonic() > stop_at:
            return
        yield told(bench.kill_randomly(number, chance))


def told(outcome: Outcome) -> Outcome:
    """The same outcome, said on stderr."""
    found = ", ".join(outcome.differences) or "same bits"
    print(f"{outcome.variant}, killed at {outcome.moment}: {found}", file=sys.stderr, flush=True)
    return outcome


if __name__ == "__main__":
    main()
