"""Columns and rows of a Parquet file as JSON lines on stdout, for `finetunekit.data.tables`: run as a program of its own.

A broken Parquet file can crash the library that reads it, or make it ask for any amount of memory; then this process ends, and not the
one that trains. Usage: `python parquet_rows.py FILE MAX_ROWS MAX_BYTES [COLUMN ...]`. The first line lists the columns; a line a row
follows where columns are named. Exit status 3: the file is broken, and stderr says how.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

MEMORY_BYTES = 6 * 2**30
"""Of address space; pyarrow reserves a good part of it without using it."""


def limit_memory() -> None:
    """Ask the operating system for a bound, where it has one."""
    with contextlib.suppress(ImportError):  # Windows has none
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def print_rows(path: str, max_rows: int, max_bytes: int, columns: list[str]) -> None:
    """Print the header, and the rows of the named columns.

    Raises:
        ValueError: If there are more rows or bytes than allowed.
    """
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    if file.metadata.num_rows > max_rows:
        raise ValueError(f"has more than {max_rows:,} rows")
    print(json.dumps(file.schema_arrow.names))
    written = 0
    for batch in file.iter_batches(columns=columns, use_threads=False) if columns else ():
        for row in zip(*(batch.column(column).to_pylist() for column in columns), strict=True):
            line = json.dumps(row, default=_text)
            written += len(line)
            if written > max_bytes:
                raise ValueError(f"columns {', '.join(columns)} hold more than {max_bytes:,} bytes")
            print(line)


def _text(value: Any) -> Any:
    """Dates and the like as text; bytes are no text."""
    return {"bytes": len(value)} if isinstance(value, bytes) else str(value)


def main() -> None:
    """Print, and turn whatever goes wrong into one line."""
    limit_memory()
    try:
        print_rows(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
    except Exception as exc:  # noqa: BLE001 (pyarrow raises whatever a broken file drives it into; all of it is this file's)
        print(" ".join(str(exc).split())[:200] or type(exc).__name__, file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
