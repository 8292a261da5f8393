"""Photos that wait at the same time are answered together, in one thread; whoever gave up meanwhile is passed over."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetunekit.data.decode import Pixels
    from finetunekit.serving.served import Raw, Served


class Batcher:
    """The one thread in which a model computes.

    It takes what waits, at most what the model answers at once, and waits for nobody: a photo that comes alone is answered alone.
    How many may wait is for the caller to say, see `finetunekit.serving.admission`.
    """

    def __init__(self, served: Served) -> None:
        """Start the thread."""
        self._served = served
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Pixels] | Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    def submit(self, photo: Pixels) -> Future[Raw]:
        """What the model says of a photo, once it has."""
        asked: Future[Any] = Future()
        self._waiting.put((asked, photo))
        return asked

    def call(self, work: Callable[[], Any]) -> Future[Any]:
        """Do something else with the model, between two batches."""
        asked: Future[Any] = Future()
        self._waiting.put(lambda: _settle(asked, work))
        return asked

    def close(self) -> None:
        """Answer the requests that were accepted, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open = True
        while is_open:
            item = self._waiting.get()
            batch: list[tuple[Future[Any], Pixels]] = []
            while True:
                if item is None:
                    is_open = False
                    break
                if callable(item):
                    self._answer(batch)
                    batch = []
                    item()
                elif item[0].set_running_or_notify_cancel():
                    batch.append(item)
                if len(batch) == self._served.most:
                    break
                try:
                    item = self._waiting.get_nowait()
                except queue.Empty:
                    break
            self._answer(batch)

    def _answer(self, batch: list[tuple[Future[Any], Pixels]]) -> None:
        if not batch:
            return
        try:
            rows = self._served.answer([photo for _, photo in batch])
        except Exception as exc:  # noqa: BLE001  # it belongs to those who asked, and the thread goes on
            for asked, _ in batch:
                asked.set_exception(exc)
            return
        for (asked, _), row in zip(batch, rows, strict=True):
            asked.set_result(row)


def _settle(asked: Future[Any], work: Callable[[], Any]) -> None:
    if not asked.set_running_or_notify_cancel():
        return
    try:
        asked.set_result(work())
    except Exception as exc:  # noqa: BLE001  # as above
        asked.set_exception(exc)
