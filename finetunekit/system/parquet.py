"""Parquet files as bytes, through pyarrow: the one place that says what to install where it is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from finetunekit.errors import ConfigError


def check_pyarrow(what: str) -> None:
    """Raise `ConfigError` unless pyarrow is installed; `what` needs it. Loads nothing."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(f"{what}: needs pyarrow: pip install 'finetunekit[scale]'")


def parquet_bytes(table: Any, repeated: Sequence[str] = ()) -> bytes:
    """A `pyarrow.Table` as the bytes of a Parquet file; the same table gives the same bytes.

    Args:
        table: The table.
        repeated: Columns that hold few different values, which are then written once.
    """
    import pyarrow as pa
    from pyarrow import parquet

    stream = pa.BufferOutputStream()
    # nobody looks for a number by its place in a vector, and the smallest and largest of a million take long to find
    plain = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    parquet.write_table(
        table,
        stream,
        use_dictionary=list(repeated) or False,
        write_statistics=plain,
        row_group_size=max(1, table.num_rows),
    )
    return bytes(stream.getvalue())


def read_parquet(content: bytes, columns: Sequence[str] | None = None) -> Any:
    """The `pyarrow.Table` of a Parquet file's bytes, or some of its columns.

    Raises:
        ValueError: If it is not a Parquet file, or lacks a column.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(pa.BufferReader(content), columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as exc:
        raise ValueError(str(exc)) from exc
