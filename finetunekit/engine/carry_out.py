"""`python -P -m finetunekit.engine.carry_out [--force] [--at=A=B] [--together=I@A,B]`: carries out the run in whose folder it is started.

See `finetunekit.types.Job.arguments` for what whoever starts it can rely on.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from finetunekit.engine.api import help_to_train, take_up
from finetunekit.engine.job_process import answer_for, places_of, together_of, wait_for_the_end
from finetunekit.runs.folder import STATE
from finetunekit.system.files import LOCK, file_lock
from finetunekit.system.progress import Progress

PATIENCE_S = 60.0


def main(arguments: list[str]) -> int:
    """Carry out the run; the exit code."""

    together = together_of(arguments)

    def work() -> None:
        places, progress = places_of(arguments), Progress(sys.stderr)
        if together is not None and together.number:
            help_to_train(Path(), together, progress=progress, places=places)
            wait_for_the_end()
            return
        _wait_for_the_last_one(Path())
        is_forced = "--force" in arguments
        take_up(Path(), is_forced=is_forced, trust=True, progress=progress, places=places, together=together)

    return answer_for(work, together)


def _wait_for_the_last_one(folder: Path) -> None:
    """Whoever carried it out before may be on its way out: told to stop a moment ago, or gone with a machine that is not."""
    if (folder / STATE).is_file():
        with contextlib.suppress(TimeoutError), file_lock(folder / LOCK, timeout_s=PATIENCE_S):
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
