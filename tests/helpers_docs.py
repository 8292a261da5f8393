"""What pages of the documentation show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a page and the lines shown below it."""
    for block in re.findall(r"```console\n(.+?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL):
        command, *shown = block.replace("\\\n", "").splitlines()
        yield command.removeprefix("$ finetunekit "), shown
