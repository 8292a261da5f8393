"""`python -P -m finetunekit.experiments.carry_out_probe [--at=A=B]`: tries the candidate of the job in whose folder it is started."""

from __future__ import annotations

import sys
from pathlib import Path

from finetunekit.engine.job_process import answer_for, places_of
from finetunekit.experiments.probe_jobs import carry_out_probe
from finetunekit.system.progress import Progress


def main(arguments: list[str]) -> int:
    """Try it; the exit code."""
    folder = Path.cwd()
    return answer_for(lambda: carry_out_probe(folder, places_of(arguments), Progress(sys.stderr)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
