"""In a notebook: a finished run that shows itself, and progress in one place of the output. Nothing here needs IPython to be installed."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from finetunekit.runs.folder import REPORTS
from finetunekit.system.progress import Progress
from finetunekit.types import TEST, TRAIN, VALID

_NONE = "–"
_SCORES = (("accuracy", "accuracy"), ("macro F1", "macro_f1"), ("log loss, nats", "log_loss"))
_LEFT, _RIGHT = ' style="text-align: left"', ' style="text-align: right"'


# ---- a result --------------------------------------------------------------------------------------------------------------------


def result_html(path: Path, metrics: Mapping[str, Any], summary: Sequence[str]) -> str:
    """A finished run as HTML: its sentences, its scores with their intervals, its figures, and where it lies.

    Figures are images of their own rather than elements of the page: names inside one cannot meet those of another, and
    nothing in them runs.

    Args:
        path: The run folder; its SVG reports are read from there, and those that are gone are left out.
        metrics: Content of `metrics.json`.
        summary: Sentences for the user.

    Returns:
        One `<div>`, every text in it escaped.
    """
    figures = [_image(path) for path in sorted((path / REPORTS).glob("*.svg"))]
    return "\n".join(
        [
            '<div class="finetunekit-run">',
            f'<pre style="white-space: pre-wrap">{escape(chr(10).join(summary))}</pre>',
            _scores(metrics),
            _classes(metrics),
            *figures,
            f"<p><code>{escape(str(path))}</code></p>",
            "</div>",
        ]
    )


def _scores(metrics: Mapping[str, Any]) -> str:
    splits = [split for split in (TRAIN, VALID, TEST) if split in metrics]
    rows = [[title, *(_score(metrics[split].get(key)) for split in splits)] for title, key in _SCORES]
    photos = ["photos", *(str(metrics[split]["photos"]) for split in splits)]
    return _table(["", *splits], [photos, *rows])


def _classes(metrics: Mapping[str, Any]) -> str:
    rows = [
        [metrics["classes"][one["index"]], str(one["support"]), _score(one["recall"]), _score(one["precision"])]
        for one in metrics.get(TEST, {}).get("classes", ())
    ]
    return _table([f"{TEST} class", "photos", "recall", "precision"], rows) if rows else ""


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


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th{_LEFT if n == 0 else _RIGHT}>{escape(cell)}</th>" for n, cell in enumerate(header))
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: Iterable[str]) -> str:
    first, *others = map(escape, row)
    return f"<th{_LEFT}>{first}</th>" + "".join(f"<td{_RIGHT}>{cell}</td>" for cell in others)


def _image(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    shown = escape(path.stem.replace("_", " "))
    # white, since figures are drawn for paper and a notebook may be dark
    style = "max-width: 100%; background: white"
    return f'<p><img alt="{shown}" title="{shown}" style="{style}" src="data:image/svg+xml;base64,{content}"></p>'


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
