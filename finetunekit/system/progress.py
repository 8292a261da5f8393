"""What a long job says while it works: whole lines on stderr, and on a terminal one live line below them."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable
from html import escape
from typing import Any, TextIO

_REFRESH_S = 0.2


def show_duration(seconds: float) -> str:
    """`41 s`, `6 min 10 s`, `2 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def terminal_width(text: str) -> int:
    """Columns that a text takes on a terminal. Source: Unicode UAX 11: wide and full-width letters take two, marks none."""
    marks = ("Mn", "Me", "Cf")
    return sum(
        0 if unicodedata.category(c) in marks else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1
        for c in text
    )


def padded(text: str, width: int) -> str:
    """A text with the blanks behind it that fill so many columns of a terminal."""
    return text + " " * (width - terminal_width(text))


class Progress:
    """Prints progress; quiet ones print nothing. No colour and no live line off a terminal."""

    def __init__(self, stream: TextIO | None = None, *, is_quiet: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._is_quiet = is_quiet
        self._is_live = not is_quiet and self._stream.isatty()
        self._live_width = 0
        self._shown_at = 0.0

    def say(self, line: str) -> None:
        """Print one whole line, wrapped between words on a terminal.

        A letter that the stream cannot encode is escaped rather than lost.
        """
        if self._is_quiet:
            return
        self._clear()
        if self._is_live:
            columns = shutil.get_terminal_size().columns - 1
            line = textwrap.fill(line, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        self._stream.flush()

    def tick(self, text: str) -> None:
        """Replace the live line, a few times a second at most; it is cut to 79 columns."""
        now = time.monotonic()
        if not self._is_live or now - self._shown_at < _REFRESH_S:
            return
        self._shown_at = now
        line = text[:79]
        self._stream.write("\r" + line.ljust(self._live_width))
        self._stream.flush()
        self._live_width = len(line)

    def counter(self, what: str) -> Callable[[int, int], None]:
        """A callback `(done, total)` that keeps the live line current, with the time left."""
        started = time.monotonic()

        def count(done: int, total: int) -> None:
            left_s = (time.monotonic() - started) / max(done, 1) * (total - done)
            self.tick(f"{what}: {done} of {total}, {show_duration(left_s)} left")
            if done >= total:
                self.close()

        return count

    def close(self) -> None:
        """Take the live line away, so that what is printed next does not stand behind it. Progress may go on afterwards."""
        self._clear()
        self._stream.flush()

    def _clear(self) -> None:
        if self._live_width:
            self._stream.write("\r" + " " * self._live_width + "\r")
            self._live_width = 0


_REFRESH_S = 0.2


# ---- progress --------------------------------------------------------------------------------------------------------------------


def is_in_notebook() -> bool:
    """Whether a Jupyter kernel runs this, so that output can be replaced; False in a terminal, IPython's included."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def default_progress() -> Progress:
    """Progress for where this runs: in the notebook's output, or on stderr."""
    return NotebookProgress() if is_in_notebook() else Progress()


class NotebookProgress(Progress):
    """Every line said, and below them the live line, in one output that is replaced as it grows."""

    def __init__(self) -> None:
        super().__init__(is_quiet=True)
        self._lines: list[str] = []
        self._live = ""
        self._handle: Any = None
        self._updated_at = 0.0

    def say(self, line: str) -> None:
        """Add one whole line; the live line goes."""
        self._lines.append(line)
        self._live = ""
        self._update()

    def tick(self, text: str) -> None:
        """Replace the live line, a few times a second at most."""
        now = time.monotonic()
        if now - self._updated_at < _REFRESH_S:
            return
        self._updated_at = now
        self._live = text
        self._update()

    def _update(self) -> None:
        text = "\n".join([*self._lines, *filter(None, [self._live])])
        bundle = {"text/plain": text, "text/html": f'<pre style="white-space: pre-wrap">{escape(text)}</pre>'}
        if self._handle is None:
            display = sys.modules["IPython"].display.display
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
