"""Lines for a terminal: tables, wrapped sentences, and names that cannot do harm there. rich measures and lays out; no colour, no boxes.

Nothing here asks what terminal there is: lines are the same bytes in a terminal, a pipe and a file, unless the caller gives its width.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_COLUMNS = 80
_JOINERS = "\u200c\u200d"  # parts of words in Persian and Hindi, and of emoji


def printable(text: str) -> str:
    """The text on one line, with line breaks, control characters and marks that turn or hide text as Python escapes."""
    return text if text.isprintable() else "".join(repr(c)[1:-1] if _is_harmful(c) else c for c in text)


def _is_harmful(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cf", "Cn", "Cs", "Zl", "Zp") and letter not in _JOINERS


def terminal_width(text: str) -> int:
    """Columns that a text takes on a terminal. Source: rich.cells, Unicode UAX 11: wide letters take two, combining marks none."""
    from rich.cells import cell_len

    return cell_len(text)


def wrap(text: str, *, indent: int = 0, hanging: int = 0, width: int = WIDTH_COLUMNS) -> list[str]:
    """Lines of at most so many columns, broken at blanks only: a path, a command or an address stays whole.

    Args:
        text: Line breaks in it count as blanks.
        indent: Blanks before every line.
        hanging: Blanks more before every line but the first.
        width: Columns, blanks included.
    """
    from rich.text import Text

    whole = Text(
        printable(" ".join(text.splitlines())), overflow="ignore"
    )  # words longer than a line are neither cut nor broken
    parts = whole.wrap(_console(width), width - indent - hanging)
    return [" " * (indent + hanging * (i > 0)) + part.plain.rstrip() for i, part in enumerate(parts)]


def table(
    rows: Iterable[Sequence[object]],
    header: Sequence[str] = (),
    *,
    right: Collection[int] = (),
    wrapped: Collection[int] = (),
    indent: int = 0,
    width: int = WIDTH_COLUMNS,
) -> list[str]:
    """Rows as lines, columns two blanks apart.

    Args:
        rows: Cells; what is not text becomes text.
        header: Titles of the columns; without them there is no header.
        right: Columns, from 0, whose cells stand to the right, as numbers do.
        wrapped: Columns whose cells may go on below themselves, so that the line fits.
        indent: Blanks before every line.
        width: Columns that a line has; longer where cells that are not wrapped leave no other way.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(str(cell)) for cell in row] for row in (*([header] if header else ()), *rows)]
    grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    least = -2
    for number, column in enumerate(zip(*cells, strict=True)):
        grid.add_column(justify="right" if number in right else "left", no_wrap=number not in wrapped)
        parts = " ".join(column).split() if number in wrapped else column
        least += max(map(cell_len, parts), default=0) + 2
    for row in cells:
        grid.add_row(*map(Text, row))
    lines = _console(max(width - indent, least, 1)).render_lines(grid, pad=False)
    return [" " * indent + "".join(segment.text for segment in line).rstrip() for line in lines] if cells else []


def shorten(text: str, width: int, keep: Literal["start", "middle", "end"] = "start") -> str:
    """Text of at most so many columns; `…` stands for what is left out.

    Args:
        text: A name.
        width: Columns, at least 2.
        keep: What of it stays: its start, its start and end, or its end.
    """
    from rich.cells import set_cell_size

    text = printable(text)
    if terminal_width(text) <= width:
        return text
    head = set_cell_size(text, {"start": width - 1, "middle": (width - 1) // 2, "end": 0}[keep]).rstrip()
    tail = 0 if keep == "start" else width - 1 - terminal_width(head)
    return f"{head}…{set_cell_size(text[::-1], tail).rstrip()[::-1]}"


def _console(width: int) -> Console:
    """One that looks at no terminal, notebook or environment."""
    from rich.console import Console

    return Console(
        width=width,
        height=100,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
