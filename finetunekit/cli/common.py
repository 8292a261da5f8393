"""What several verbs share: options and ways to print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from finetunekit.system.progress import Progress, padded, terminal_width

_OPEN = "finetunekit.system.progress"

F = TypeVar("F", bound=Callable[..., Any])


def preset_options(function: F) -> F:
    """`PRESET`, `--set` and `--seed`."""
    return click.argument("preset")(setting_options(function))


def setting_options(function: F) -> F:
    """`--set` and `--seed`."""
    function = click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Replace the preset's seed.")(function)
    return click.option(
        "--set", "settings", multiple=True, metavar="A.B[0].C=VALUE", help="Change a value; VALUE is YAML. Repeatable."
    )(function)


def out_option(function: F) -> F:
    """`--out`, the folder of runs."""
    return click.option("--out", default="runs", show_default=True, help="Folder that holds runs.")(function)


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(function)


def print_json(value: Any) -> None:
    """Print plain values as JSON on stdout."""
    from finetunekit.system.files import to_json

    click.echo(to_json(value), nl=False)


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print left-aligned columns, separated by two spaces; no line is wrapped."""
    table = [list(header), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(terminal_width(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        click.echo("  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip())


def make_progress(*, is_quiet: bool = False) -> Progress:
    """Progress on stderr; its live line is taken away before an error is printed."""
    progress = Progress(sys.stderr, is_quiet=is_quiet)
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta.setdefault(_OPEN, []).append(progress)
    return progress


def close_progress(context: click.Context) -> None:
    """Take away the live lines of a command that is over."""
    for progress in context.meta.get(_OPEN, ()):
        progress.close()


def load_host() -> Any:
    """Installed plugins; warnings go to stderr."""
    from finetunekit.plugins.host import load_plugins

    return load_plugins(make_progress().say)
