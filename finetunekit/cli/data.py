"""`finetunekit data`."""

from __future__ import annotations

import click


@click.group("data")
def command() -> None:
    """Make and look at photos."""
