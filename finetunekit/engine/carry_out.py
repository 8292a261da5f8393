"""`python -P -m finetunekit.engine.carry_out [--force] [--at=A=B]`: the process that carries out the run in whose folder it is started.

See `finetunekit.types.Job.arguments` for what whoever starts it can rely on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from finetunekit.engine.api import resume
from finetunekit.errors import FinetuneKitError
from finetunekit.runs.folder import STATE
from finetunekit.system.files import LOCK, file_lock
from finetunekit.system.formatting import one_line
from finetunekit.system.progress import Progress

PATIENCE_S = 60.0
_INTERRUPTED = 130
_UNFORESEEN = 70  # EX_SOFTWARE of BSD's sysexits.h


def main(arguments: list[str]) -> int:
    """Carry out the run; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a job of a shell in the background begins with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    with _answering() as answer:
        try:
            _stop_with_stdin()
            _wait_for_the_last_one(Path())
            resume(
                Path(),
                is_forced="--force" in arguments,
                trust=True,
                progress=Progress(sys.stderr),
                places=_places(arguments),
            )
        except KeyboardInterrupt:
            return _INTERRUPTED
        except FinetuneKitError as exc:
            answer.write(str(exc))
            return exc.exit_code
        except Exception as exc:  # noqa: BLE001 - whoever started it hears of it, whatever it is
            traceback.print_exc()
            answer.write(f"{type(exc).__name__}: {one_line(exc)}")
            return _UNFORESEEN
    return 0


def _places(arguments: list[str]) -> dict[Path, Path]:
    """`--at=A=B`, repeated."""
    pairs = (text.removeprefix("--at=").partition("=") for text in arguments if text.startswith("--at="))
    return {Path(asked): Path(here) for asked, _, here in pairs}


def _wait_for_the_last_one(folder: Path) -> None:
    """Whoever carried it out before may be on its way out: told to stop a moment ago, or gone with a machine that is not."""
    if (folder / STATE).is_file():
        with contextlib.suppress(TimeoutError), file_lock(folder / LOCK, timeout_s=PATIENCE_S):
            pass


@contextlib.contextmanager
def _answering() -> Iterator[TextIO]:
    """Stdout as it was; what libraries and plugins print meanwhile goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace") as answer:
        os.dup2(2, 1)
        yield answer


def _stop_with_stdin() -> None:
    """Where stdin is a pipe, stop as by Ctrl-C when it is closed: whoever started the run wants it stopped, or is gone."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_interrupt_at_end_of_stdin, name="stdin", daemon=True).start()


def _interrupt_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
