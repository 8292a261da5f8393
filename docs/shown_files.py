"""Files that a page shows: after `<!-- file: PATH -->` the next code block is PATH's content, relative to the page."""

from __future__ import annotations

import re
from pathlib import Path

SHOWN = re.compile(r"(<!-- file: (?P<path>.+?) -->\n```\w+\n).*?(```)", re.DOTALL)


def render_shown(page: Path) -> str:
    """The page with the content of every file that it shows."""

    def fill(match: re.Match[str]) -> str:
        content = (page.parent / match["path"]).read_text(encoding="utf-8")
        return f"{match[1]}{content}{match[3]}"

    return SHOWN.sub(fill, page.read_text(encoding="utf-8"))
