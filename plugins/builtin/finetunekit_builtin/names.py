"""Names as messages show them."""

from __future__ import annotations

from pathlib import Path


def plain(name: str | Path) -> str:
    """The name on one line; line breaks, undecodable bytes and backslashes as Python escapes."""
    return repr(str(name))[1:-1]
