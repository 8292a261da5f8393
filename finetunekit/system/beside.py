"""Work in a thread of its own while the caller goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def begin(work: Callable[[], T], *, name: str) -> Future[T]:
    """Begin it in a thread that the end of the process does not wait for.

    Args:
        work: What to do.
        name: Of the thread.

    Returns:
        What comes of it: `result()` waits, and raises what the work raised.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:  # noqa: BLE001 - raised to whoever asks for the result
            future.set_exception(exc)

    threading.Thread(target=run, name=f"finetunekit-{name}", daemon=True).start()
    return future
