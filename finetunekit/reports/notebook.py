"""In a notebook: a finished run that shows itself. Nothing here needs IPython to be installed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Generic, TypeVar

from finetunekit.runs.folder import REPORTS
from finetunekit.system.progress import Progress
from finetunekit.types import TEST, TRAIN, VALID

T = TypeVar("T")
_NONE = "–"
_SCORES = (("accuracy", "accuracy"), ("macro F1", "macro_f1"), ("log loss, nats", "log_loss"))


def result_html(path: Path, metrics: Mapping[str, Any], summary: Sequence[str]) -> str:
    """A finished run as HTML: its sentences, its scores with their intervals, its figures, and where it lies.

    Args:
        path: The run folder; its SVG reports are read from there, and those that are gone are left out.
        metrics: Content of `metrics.json`.
        summary: Sentences for the user.

    Returns:
        One `<div>`, every text in it escaped.
    """
    from finetunekit.reports.pages import TEMPLATES, render

    splits = [split for split in (TRAIN, VALID, TEST) if split in metrics]
    photos = ["photos", *(str(metrics[split]["photos"]) for split in splits)]
    return render(
        TEMPLATES / "notebook.html",
        path=path,
        summary=summary,
        splits=splits,
        scores=[photos, *([title, *(_score(metrics[split].get(key)) for split in splits)] for title, key in _SCORES)],
        classes=[
            [metrics["classes"][one["index"]], str(one["support"]), _score(one["recall"]), _score(one["precision"])]
            for one in metrics.get(TEST, {}).get("classes", ())
        ],
        figures=[_figure(file) for file in sorted((path / REPORTS).glob("*.svg"))],
    )


@dataclass(frozen=True, slots=True)
class Told(Generic[T]):
    """What was found, which prints itself: in a terminal and in a notebook as its sentences.

    Attributes:
        value: The values behind the sentences.
        lines: The sentences, of at most 80 columns.
    """

    value: T
    lines: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        return f'<pre style="white-space: pre-wrap">{escape(repr(self))}</pre>'


def _score(score: Mapping[str, Any] | None) -> str:
    """`91.2 % (146 of 160; 85.8 to 94.7 %)`, or without per cent where it is no share."""
    if score is None or score.get("value") is None:
        return _NONE
    is_share = "successes" in score or "classes" in score
    counted = [f"{score['successes']} of {score['photos']}"] if "successes" in score else []
    interval = score.get("interval")
    if interval:
        unit = " %" if is_share else ""
        counted.append(f"{_number(interval['low'], is_share)} to {_number(interval['high'], is_share)}{unit}")
    shown = _number(score["value"], is_share) + (" %" if is_share else "")
    return f"{shown} ({'; '.join(counted)})" if counted else shown


def _number(value: float | None, is_share: bool) -> str:
    if value is None:
        return _NONE
    return f"{value * 100:.1f}" if is_share else f"{value:.3f}"


def _figure(path: Path) -> tuple[str, str]:
    """What it shows, and the figure as an address that needs no network."""
    from finetunekit.reports.thumbnails import data_address

    return path.stem.replace("_", " "), data_address(path.read_bytes(), "image/svg+xml")


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
    """Every line said, and below them what is done now, in one output that is replaced as it grows."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._handle: Any = None

    def say(self, line: str) -> None:
        """Add one whole line in place of what was shown below."""
        self._lines.append(line)
        self._update()

    def close(self) -> None:
        """Leave the lines alone."""
        if self._handle is not None:
            self._update()

    def _draw(self, what: str, done: int, total: int | None, left: str) -> None:
        self._update(", ".join(filter(None, [what, f"{done} of {total}" if total else "", left])))

    def _update(self, live: str = "") -> None:
        text = "\n".join([*self._lines, *filter(None, [live])])
        bundle = {"text/plain": text, "text/html": f'<pre style="white-space: pre-wrap">{escape(text)}</pre>'}
        if self._handle is None:
            display = sys.modules["IPython"].display.display
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
