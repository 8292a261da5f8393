"""What a process that carries out a job promises whoever starts it; see `finetunekit.types.Job.arguments`."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from finetunekit.errors import FinetuneKitError
from finetunekit.system.formatting import one_line
from finetunekit.training.devices import Together

_INTERRUPTED = 130
TOGETHER_PATIENCE_S = 25.0
_UNFORESEEN = 70  # EX_SOFTWARE of BSD's sysexits.h


def answer_for(work: Callable[[], None], together: Together | None = None) -> int:
    """Do the work and answer for it: the exit code, and on stdout why it is not 0; `together`: with these other processes."""
    for number in (signal.SIGINT, signal.SIGTERM):  # jobs of a shell in the background begin with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    if hasattr(signal, "pthread_sigmask"):  # and whoever starts it from a thread may have them blocked there
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    with _answering() as answer:
        try:
            _stop_with_stdin(_patience_s(together))
            work()
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


def places_of(arguments: list[str]) -> dict[Path, Path]:
    """`--at=A=B`, repeated: what lies at A where the job was asked for lies at B here."""
    pairs = (text.removeprefix("--at=").partition("=") for text in arguments if text.startswith("--at="))
    return {Path(asked): Path(here) for asked, _, here in pairs}


def together_of(arguments: list[str]) -> Together | None:
    """`--together=I@HOST:PORT,HOST:PORT`: this process is number I of those that carry out the job."""
    for text in arguments:
        if text.startswith("--together="):
            number, _, addresses = text.removeprefix("--together=").partition("@")
            return Together(tuple(addresses.split(",")), int(number))
    return None


@contextlib.contextmanager
def _answering() -> Iterator[TextIO]:
    """Stdout as it was; what libraries and plugins print meanwhile goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace") as answer:
        os.dup2(2, 1)
        yield answer


def wait_for_the_end() -> None:
    """Stay until stopped: the first of several processes that carry out a job has more to do, and looks after the others."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Event().wait()


def _patience_s(together: Together | None) -> float | None:
    """How long an interrupted process may take to end; None: as long as it likes.

    TensorFlow cannot be interrupted while it waits for another process. A helper has nothing to keep.
    """
    if together is None:
        return None
    return 0.0 if together.number else TOGETHER_PATIENCE_S


def _stop_with_stdin(patience_s: float | None) -> None:
    """Where stdin is a pipe, stop as by Ctrl-C when it is closed: whoever started the job wants it stopped, or is gone."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_interrupt_at_end_of_stdin, args=(patience_s,), name="stdin", daemon=True).start()


def _interrupt_at_end_of_stdin(patience_s: float | None) -> None:
    while os.read(0, 4096):
        pass
    if patience_s is not None:
        threading.Timer(patience_s, os._exit, (_INTERRUPTED,)).start()
    main_thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main_thread is not None:
        signal.pthread_kill(main_thread, signal.SIGINT)  # which wakes from whatever it waits for
    else:
        signal.raise_signal(signal.SIGINT)
