"""A plugin's converter, called with its errors turned into one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finetunekit.errors import FinetuneKitError, WeightsError
from finetunekit.models.weights.cache import check_arrays, one_line
from finetunekit.types import Arrays


def convert_file(convert: Callable[[Path], Arrays], path: Path, origin: str) -> Arrays:
    """Run a converter and check what it returns.

    Args:
        convert: A weight source's converter.
        path: The file it reads.
        origin: Where the file came from, for messages.

    Returns:
        Arrays by `<layer path>/<variable name>`.

    Raises:
        WeightsError: If the converter fails, or returns arrays that no model can use.
    """
    try:
        arrays = convert(path)
    except FinetuneKitError as exc:
        raise WeightsError(f"cannot be converted: {one_line(exc)}") from exc
    except Exception as exc:  # a plugin's code: whatever it raises is shown, and the next source tried
        raise WeightsError(f"its converter failed with {type(exc).__name__}: {one_line(exc)}") from exc
    check_arrays(arrays, origin)
    return arrays
