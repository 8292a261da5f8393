"""One run of one recipe in this process; what `bench_recipes.py` starts. Prints one line of JSON.

python benchmarks/recipe_job.py --preset NAME --out DIR [a.b=VALUE ...]
"""

from __future__ import annotations

import json
import time
from typing import Any

from common import parse_job

import finetunekit as ftk
from finetunekit.runs.folder import MODEL
from finetunekit.system.progress import Progress


def describe_run(result: ftk.RunResult) -> dict[str, Any]:
    """Scores of a finished run, seconds of CPU so far, and when its model was saved (seconds since 1970)."""
    run, test = ftk.FinishedRun(result.path), result.metrics["test"]
    reverted = [stage["name"] for stage in run.state["stages"] if stage.get("revert", {}).get("reverted")]
    return {
        "right": test["accuracy"]["successes"],
        "photos": test["photos"],
        "accuracy": test["accuracy"]["value"],
        "log_loss": test["log_loss"]["value"],
        "valid_log_loss": result.metrics["valid"]["log_loss"]["value"],
        "reverted": reverted,
        "cpu_s": time.process_time(),
        "saved_at": (result.path / MODEL).stat().st_mtime,
    }


def main() -> None:
    asked = parse_job(__doc__)
    result = ftk.run(asked.preset, settings=asked.settings, out=asked.out, progress=Progress())
    print(json.dumps(describe_run(result)))


if __name__ == "__main__":
    main()
