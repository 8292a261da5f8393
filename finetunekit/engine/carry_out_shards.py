"""`python -P -m finetunekit.engine.carry_out_shards [--at=A=B]`: the process that makes the shards of the job in whose folder it starts."""

from __future__ import annotations

import sys
from pathlib import Path

from finetunekit.engine.job_process import answer_for, places_of
from finetunekit.engine.shard_jobs import carry_out_shards
from finetunekit.system.progress import Progress


def main(arguments: list[str]) -> int:
    """Make them; the exit code."""
    folder = Path.cwd()
    return answer_for(lambda: carry_out_shards(folder, places_of(arguments), Progress(sys.stderr)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
