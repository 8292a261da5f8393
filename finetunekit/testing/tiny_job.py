"""The job that executors are checked with: `python -P -m finetunekit.testing.tiny_job` in a folder whose file `does` says how it ends."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Literal

from finetunekit.errors import RunError

Ending = Literal["finish", "fail", "die once", "wait"]
TEXT = "the kit's job fails,\nas it should"
_STATE, _ATTEMPTS = "run.json", "attempts"
_INTERRUPTED = 130


def make_folder(folder: Path, ending: Ending, run_format: int) -> Path:
    """A folder for a job; it passes for that of a run."""
    folder.mkdir(parents=True)
    (folder / "does").write_text(ending, encoding="utf-8")
    _note(folder, "waiting", run_format)
    return folder


def attempts(folder: Path) -> int:
    """How often the job of a folder was begun."""
    path = folder / _ATTEMPTS
    return len(path.read_text(encoding="utf-8")) if path.is_file() else 0


def carry_out(folder: Path) -> None:
    """Carry the job out in this process, which does not die, and does not wait.

    Raises:
        RunError: If it is one that fails.
    """
    with (folder / _ATTEMPTS).open("a", encoding="utf-8") as stream:
        stream.write("x")
    is_failing = (folder / "does").read_text(encoding="utf-8") == "fail"
    _note(folder, "failed" if is_failing else "finished")
    if is_failing:
        raise RunError(TEXT)


def main(folder: Path) -> int:
    """Carry it out in a process of its own, as `finetunekit.engine.carry_out` does with a run."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    does = (folder / "does").read_text(encoding="utf-8")
    try:
        if does == "wait":
            _note(folder, "running")
            sys.stdin.buffer.read()
            raise KeyboardInterrupt
        if does == "die once" and not attempts(folder):
            (folder / _ATTEMPTS).write_text("x", encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)
        carry_out(folder)
    except KeyboardInterrupt:
        _note(folder, "interrupted")
        return _INTERRUPTED
    except RunError as exc:
        print(exc)
        return exc.exit_code
    return 0


def _note(folder: Path, status: str, run_format: int | None = None) -> None:
    path = folder / _STATE
    state = {"format": run_format} if run_format is not None else json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**state, "status": status}), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(Path()))
