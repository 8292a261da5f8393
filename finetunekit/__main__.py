"""`python -m finetunekit` is the `finetunekit` command."""

from __future__ import annotations

from finetunekit.cli import main

main(prog_name="finetunekit")
