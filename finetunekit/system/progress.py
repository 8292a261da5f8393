"""What a long job says while it works: whole lines on stderr, and on a terminal a bar below them."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from finetunekit.system.formatting import show_duration
from finetunekit.system.terminal import printable, wrap

if TYPE_CHECKING:
    from rich.live import Live

_REFRESH_S = 0.2
_BAR_COLUMNS = 24


class Progress:
    """Prints progress, from any thread; quiet ones print nothing, and so do those whose stream fails.

    No bar off a terminal, no colour anywhere.
    """

    def __init__(self, stream: TextIO | None = None, *, is_quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._is_quiet = is_quiet
        self._is_terminal = not is_quiet and self._stream.isatty()
        self._live: Live | None = None
        self._shown_at = float("-inf")
        self._lock = threading.RLock()

    def say(self, line: str) -> None:
        """Print one whole line, wrapped between words on a terminal.

        A letter that the stream cannot encode is escaped rather than lost.
        """
        if self._is_quiet:
            return
        whole = printable(" ".join(line.splitlines()))
        lines = wrap(whole, hanging=2, width=shutil.get_terminal_size().columns) if self._is_terminal else [whole]
        with self._lock:
            self.close()
            try:
                self._stream.write("".join(f"{self._encodable(part)}\n" for part in lines))
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads it any more, or its disk is full: no reason to lose the job
                self._is_quiet = True

    def show(self, what: str, done: int = 0, total: int | None = None, left_s: float | None = None) -> None:
        """Show what is done now, until the next line is said; a few times a second at most.

        Args:
            what: The job.
            done: Parts of it that are done.
            total: Parts that it has; without them there is no bar.
            left_s: Seconds that it will take yet, where that can be told.
        """
        now = time.monotonic()
        if self._is_quiet or now - self._shown_at < _REFRESH_S:
            return
        self._shown_at = now
        with self._lock:
            try:
                self._draw(printable(what), done, total, "" if left_s is None else f"{show_duration(left_s)} left")
            except OSError:
                self._is_quiet = True

    def counter(self, what: str) -> Callable[[int, int], None]:
        """A callback `(done, total)` that shows how far a job is, with the time left."""
        started = time.monotonic()

        def count(done: int, total: int) -> None:
            self.show(what, done, total, (time.monotonic() - started) / max(done, 1) * (total - done))
            if done >= total:
                self.close()

        return count

    def close(self) -> None:
        """Take the bar away, so that what is printed next does not stand beside it. Progress may go on afterwards."""
        with self._lock:
            live, self._live = self._live, None
            if live is not None:
                try:
                    live.stop()
                except OSError:
                    self._is_quiet = True

    def _draw(self, what: str, done: int, total: int | None, left: str) -> None:
        if not self._is_terminal:
            return
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if self._live is None:
            self._live = _open_live(self._stream)
        grid = Table.grid(padding=(0, 2, 0, 0))
        counted = () if total is None else (ProgressBar(total, done, width=_BAR_COLUMNS), Text(f"{done}/{total}"))
        grid.add_row(*counted, Text(self._encodable(what), no_wrap=True, overflow="ellipsis"), Text(left))
        self._live.update(grid, refresh=True)

    def _encodable(self, text: str) -> str:
        encoding = self._stream.encoding or "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)


def _open_live(stream: TextIO) -> Live:
    """A line that is drawn anew when it is told to and leaves nothing behind. What other code prints stays where it goes."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, color_system=None, no_color=True)
    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    live.start()
    return live
