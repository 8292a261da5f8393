"""`finetunekit cache`."""

from __future__ import annotations

import click

from finetunekit.cli.common import (
    WholeLines,
    json_option,
    make_progress,
    print_json,
    print_lines,
    print_table,
)


@click.group("cache", cls=WholeLines)
def command() -> None:
    """List and clear cached features. What is cleared is computed again when a run needs it."""


@command.command("list")
@json_option
def list_entries(as_json: bool) -> None:
    """List every entry: what it holds, its size, and when it was last used."""
    import dataclasses
    from datetime import UTC, datetime

    from finetunekit.models.feature_cache import open_cache

    entries = open_cache(make_progress().say).entries()
    if as_json:
        print_json([dataclasses.asdict(entry) for entry in entries])
        return
    rows = [
        (
            e.key[:12],
            f"{e.size_bytes / 1e6:.1f}",
            e.photos,
            f"{datetime.fromtimestamp(e.used_at, UTC):%Y-%m-%d %H:%M}",
            e.note,
        )
        for e in entries
    ]
    print_table(rows, ("entry", "MB", "photos", "last used (UTC)", "features of"), right=(1, 2), wrapped=(4,))
    print_lines([f"{len(entries)} entries, {sum(e.size_bytes for e in entries) / 1e6:.1f} MB"])


@command.command("clear")
def clear() -> None:
    """Delete every entry."""
    from finetunekit.models.feature_cache import open_cache

    print_lines([f"freed {open_cache(make_progress().say).clear() / 1e6:.1f} MB"])
