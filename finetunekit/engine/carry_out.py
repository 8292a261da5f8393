"""`python -P -m finetunekit.engine.carry_out [--force] [--at=A=B]`: the process that carries out the run in whose folder it is started.

See `finetunekit.types.Job.arguments` for what whoever starts it can rely on.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from finetunekit.engine.api import resume
from finetunekit.engine.job_process import answer_for, places_of
from finetunekit.runs.folder import STATE
from finetunekit.system.files import LOCK, file_lock
from finetunekit.system.progress import Progress

PATIENCE_S = 60.0


def main(arguments: list[str]) -> int:
    """Carry out the run; the exit code."""

    def work() -> None:
        _wait_for_the_last_one(Path())
        is_forced, progress = "--force" in arguments, Progress(sys.stderr)
        resume(Path(), is_forced=is_forced, trust=True, progress=progress, places=places_of(arguments))

    return answer_for(work)


def _wait_for_the_last_one(folder: Path) -> None:
    """Whoever carried it out before may be on its way out: told to stop a moment ago, or gone with a machine that is not."""
    if (folder / STATE).is_file():
        with contextlib.suppress(TimeoutError), file_lock(folder / LOCK, timeout_s=PATIENCE_S):
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
