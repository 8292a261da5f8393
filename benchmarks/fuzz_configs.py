"""Feed the plan configurations that nobody would write: does it ever fail otherwise than by a clean error?

    python benchmarks/fuzz_configs.py                10,000 cases
    python benchmarks/fuzz_configs.py --cases 500

Half the cases follow the JSON Schema of a preset and are spoilt in places, half are presets with letters lost and mixed in; some come with
`--set`. Prints each way in which one failed, with the shortest case found, then the count; ends with 1 if there is any.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from common import new_parser
from fuzz_cases import CLEAN, PLAN, documents, load_host, settings, spoilt_texts, verdict
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

PRESETS = Path(__file__).resolve().parent.parent / "presets"


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    failures, ended = run_cases(arguments.cases, arguments.seed)
    for failure, case in failures.items():
        print(f"{failure}\n{case[:2000]}\n")
    print(
        f"{sum(ended.values())} cases: {ended[PLAN]} became plans, {ended[CLEAN]} ended with a clean error, "
        f"{len(failures)} ways to fail otherwise"
    )
    if failures:
        sys.exit(1)


def run_cases(cases: int, start: int) -> tuple[dict[str, str], Counter[str]]:
    """What went wrong → the shortest text that does it, and how often each end was met."""
    host = load_host()
    failures: dict[str, str] = {}
    ended: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.yaml"

        def try_case(text: str, changes: list[str]) -> None:
            found = verdict(host, path, text.encode("utf-8", "surrogatepass"), changes)
            ended[found] += 1
            if found not in (PLAN, CLEAN) and len(text) < len(failures.get(found, text + " ")):
                failures[found] = f"--set {changes}\n{text}" if changes else text

        for number, texts in enumerate((documents(host), spoilt_texts(PRESETS))):
            _many(texts, try_case, (cases + number) // 2, start)
    return failures, ended


def _many(texts: st.SearchStrategy[str], try_case: Callable[[str, list[str]], None], count: int, start: int) -> None:
    options = hypothesis_settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seed(start)(options(given(texts, settings)(try_case)))()


if __name__ == "__main__":
    main()
