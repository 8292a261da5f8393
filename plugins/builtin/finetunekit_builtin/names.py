"""Names as messages show them."""

from __future__ import annotations

import json
from pathlib import Path


def plain(name: str | Path) -> str:
    """The name on one line; line breaks, undecodable bytes and backslashes as Python escapes."""
    return repr(str(name))[1:-1]


def quoted(name: str) -> str:
    """The name in quotes, as YAML and JSON read it; letters that cannot be shown as escapes."""
    return json.dumps(name, ensure_ascii=not name.isprintable())
