"""Labels that a table spreads over columns: 1 in the column of the class, 0 in the others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from finetunekit import PhotoTable

_LOOKED_AT = 200
_MOST_COLUMNS = 1000


def one_of(columns: Sequence[str], values: Sequence[Any]) -> str | list[str] | None:
    """The column with 1; None where none has it, all of them where several have."""
    hot = [column for column, value in zip(columns, values, strict=True) if _bit(value)]
    return hot if len(hot) > 1 else next(iter(hot), None)


def one_hot_columns(table: PhotoTable) -> list[str]:
    """Columns of which each of the first rows has 1 in one and 0 in the others; empty where there are no two such columns."""
    columns = table.columns[:_MOST_COLUMNS]
    rows = [values for _, values in itertools.islice(table.read(columns), _LOOKED_AT)]
    bits = [i for i in range(len(columns)) if all(_bit(row[i]) is not None for row in rows)]
    if not rows or len(bits) < 2 or any(sum(bool(_bit(row[i])) for i in bits) != 1 for row in rows):
        return []
    return [columns[i] for i in bits]


def _bit(value: Any) -> bool | None:
    """Whether a cell is 1; None where it is neither that nor 0."""
    text = str(value if value is not None else "").strip().lower()
    return True if text in ("1", "1.0", "true") else False if text in ("0", "0.0", "false", "") else None
