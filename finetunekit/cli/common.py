"""What several verbs share: options and ways to print."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any, TextIO, TypeVar

import click

from finetunekit.errors import FinetuneKitError, bounded
from finetunekit.system.formatting import counted
from finetunekit.system.progress import Progress
from finetunekit.system.terminal import WIDTH_COLUMNS, printable, table

if TYPE_CHECKING:
    from finetunekit.config.own_photos import Asked
    from finetunekit.evaluation.shards.drive import Written

F = TypeVar("F", bound=Callable[..., Any])


class WholeLines(click.Group):
    """A group whose listing gives the first sentence of each verb whole, on as many lines as it takes."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs."""
        verbs = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [
            (name, verb.get_short_help_str(limit=1000)) for name, verb in verbs if verb is not None and not verb.hidden
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def preset_options(function: F) -> F:
    """`PRESET|PHOTOS`, `--data`, `--recipe`, `--set` and `--seed`; the verb is called with a preset and all of its settings."""

    @functools.wraps(function)
    def on_photos(
        *, preset: str | None, data: str | None, recipe: str | None, settings: tuple[str, ...], **more: Any
    ) -> Any:
        asked = ask_preset(preset, data=data, recipe=recipe)
        return function(preset=asked.preset, settings=(*asked.settings, *settings), **more)

    wrapped: Any = setting_options(on_photos)
    wrapped = click.option(
        "--recipe", metavar="PRESET", help="What to do with PHOTOS: fast, best, small-data (default) or another preset."
    )(wrapped)
    wrapped = click.option(
        "--data", metavar="PHOTOS", help="Use these photos instead of the preset's: a folder, table or archive."
    )(wrapped)
    found: F = click.argument("preset", metavar="PRESET|PHOTOS", required=False)(wrapped)
    return found


def ask_preset(argument: str | None, *, data: str | None = None, recipe: str | None = None) -> Asked:
    """The preset that is meant and what photos set in it; what the user should know of it goes to stderr.

    Raises:
        ConfigError: See `finetunekit.config.own_photos.choose_preset`.
    """
    from finetunekit.config.own_photos import choose_preset
    from finetunekit.plugins.host import load_plugins

    if argument is None and data is None:
        what = "a preset's name, a YAML file, or a folder, table or archive of photos"
        raise click.UsageError(f"Missing argument 'PRESET|PHOTOS': {what}.", click.get_current_context())
    asked = choose_preset(argument, load_plugins(lambda _: None).presets, data=data, recipe=recipe)
    if asked.note:
        make_progress().say(f"note: {asked.note}")
    return asked


def setting_options(function: F) -> F:
    """`--set` and `--seed`."""
    function = click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Replace the preset's seed.")(function)
    return click.option(
        "--set", "settings", multiple=True, metavar="A.B[0].C=VALUE", help="Change a value; VALUE is YAML. Repeatable."
    )(function)


def out_option(function: F) -> F:
    """`--out`, the folder of runs."""
    return click.option("--out", default="runs", show_default=True, help="Folder that holds runs.")(function)


def trust_option(function: F) -> F:
    """`--trust`."""
    words = "Run plugin files that came with RUN, although you did not start that run here."
    return click.option("--trust", is_flag=True, help=words)(function)


def track_option(function: F) -> F:
    """`--track`."""
    return click.option(
        "--track",
        "trackers",
        multiple=True,
        metavar="NAME",
        help="Send the run to this tracker. Repeatable.",
    )(function)


def on_option(function: F) -> F:
    """`--on`."""
    words = "Where to carry it out: local, processes, or another executor's name or address.  [default: the preset's]"
    return click.option("--on", metavar="EXECUTOR", help=words)(function)


def server_options(port: int) -> Callable[[F], F]:
    """`--port`, `--host`, `--token` and `--name` of a server that listens on this port unless told otherwise."""

    def add(function: F) -> F:
        function = click.option("--name", "names", multiple=True, help="Another host name of the server. Repeatable.")(
            function
        )
        function = click.option(
            "--token",
            envvar="FINETUNEKIT_TOKEN",
            show_envvar=True,
            help="Token that requests must send. Prefer the variable, since options are visible in process lists.",
        )(function)
        function = click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Address to listen on. Another one admits other machines and needs a token.",
        )(function)
        return click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=port,
            show_default=True,
            help="Port; 0 chooses a free one.",
        )(function)

    return add


def listing_options(function: F) -> F:
    """`--option`, of the data source that lists a table or an archive."""
    return click.option(
        "--option",
        "options",
        multiple=True,
        metavar="NAME=VALUE",
        help="Option of the data source, such as photos=DIR for a table. Repeatable.",
    )(function)


def shard_option(function: F) -> F:
    """`--shard-photos`."""
    words = "Photos per shard, rounded up to a multiple of 256."
    option = click.option(
        "--shard-photos",
        type=click.IntRange(1, 2**20),
        default=4096,
        show_default=True,
        callback=lambda _context, _option, value: -(-value // 256) * 256,
        help=words,
    )
    return option(function)


def print_written(written: Written, *, as_json: bool) -> None:
    """Print what a folder of shards holds; its path stands on the last line."""
    if as_json:
        print_json({**dataclasses.asdict(written), "folder": str(written.folder)})
        return
    made = "" if written.made == written.shards else f", {written.made:,} made now"
    bad = f", {written.unreadable:,} photos unreadable" if written.unreadable else ""
    print_lines([f"{written.rows:,} rows in {counted(written.shards, 'shard')}{made}{bad}", written.folder])


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(function)


def print_json(value: Any) -> None:
    """Print plain values as JSON on stdout."""
    from finetunekit.system.files import to_json

    _echo(to_json(value), nl=False)


def print_lines(lines: Iterable[object], *, file: IO[Any] | None = None) -> None:
    """Print lines on stdout, or into a file; what a terminal would take for a command is escaped."""
    for line in lines:
        _echo(printable(str(line)), file=file)


def _echo(text: str, *, nl: bool = True, file: IO[Any] | None = None) -> None:
    try:
        click.echo(text, nl=nl, file=file)
    except BrokenPipeError:  # the reader went away, and knows
        raise
    except OSError as exc:
        if file is None:
            raise FinetuneKitError(f"stdout cannot be written ({exc.strerror or exc}).") from exc
        raise


MOST_COMPLAINTS = 100


def complain(lines: Iterable[str], *, most: int | None = MOST_COMPLAINTS) -> None:
    """Print what went wrong on stderr, so many lines at most, each bounded; where nobody can be told, the exit code says it.

    Args:
        lines: In the order of their weight.
        most: How many are shown before the rest is counted; None: all.
    """
    every = iter(lines)
    shown = list(itertools.islice(every, most))
    left = sum(1 for _ in every)
    with contextlib.suppress(OSError, ValueError):
        print_lines([*map(bounded, shown), *([f"and {left:,} more"] if left else [])], file=sys.stderr)


def print_table(
    rows: Iterable[Sequence[object]],
    header: Sequence[str] = (),
    *,
    right: Collection[int] = (),
    wrapped: Collection[int] = (),
    indent: int = 0,
) -> None:
    """Print columns as `system.terminal.table` lays them out."""
    print_lines(table(rows, header, right=right, wrapped=wrapped, indent=indent, width=screen_width()))


def screen_width() -> int:
    """Columns for tables: those of the terminal; 80 where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_COLUMNS


def make_progress(*, is_quiet: bool = False) -> Progress:
    """Progress on stderr; its bar is taken away when the command ends, before an error is printed."""
    progress = Progress(None if is_quiet else _own_stderr(), is_quiet=is_quiet)
    context = click.get_current_context(silent=True)
    if context is not None:
        context.call_on_close(progress.close)
    return progress


def _own_stderr() -> TextIO:
    """stderr by a descriptor of its own: what is written to the usual one is held back while TensorFlow is loaded in a thread."""
    try:
        if sys.stderr.fileno() != 2:
            return sys.stderr
        kept = os.dup(2)
    except (OSError, ValueError):  # a stream in memory, or a process without a stderr
        return sys.stderr
    return open(kept, "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors, closefd=False)


def load_host() -> Any:
    """Installed plugins; warnings go to stderr."""
    from finetunekit.plugins.host import load_plugins

    return load_plugins(make_progress().say)
