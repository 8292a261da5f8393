"""`finetunekit serve`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetunekit.cli.common import make_progress, out_option, server_options, trust_option

if TYPE_CHECKING:
    from finetunekit.serving.served import Served


@click.command("serve")
@click.argument("run")
@server_options(8000)
@click.option("--runtime", metavar="NAME", help="Answer with an export of RUN: onnx or litert. Loads no TensorFlow.")
@click.option(
    "--max-photos", type=click.IntRange(1, 100_000), default=256, show_default=True, help="Photos in progress at once."
)
@click.option(
    "--max-megabytes", type=click.IntRange(1, 4096), default=64, show_default=True, help="Size of one request."
)
@click.option(
    "--time-limit", type=click.FloatRange(0.1, 3600), default=60.0, show_default=True, help="Seconds for one request."
)
@out_option
@trust_option
def command(
    *,
    run: str,
    port: int,
    host: str,
    token: str | None,
    names: tuple[str, ...],
    runtime: str | None,
    max_photos: int,
    max_megabytes: int,
    time_limit: float,
    out: str,
    trust: bool,
) -> None:
    """Serve RUN over HTTP, with a page to try it on: a run's folder, its name, 'last', or an exported model's folder.

    Only this machine can connect unless --host says otherwise. 'last' moves on to newer runs when they finish.
    """
    from finetunekit.serving.guard import decide_access
    from finetunekit.serving.server import Limits, check_installed, listen, opener, serve_until_stopped, url_of

    progress = make_progress()
    check_installed()
    access = decide_access(host, token, names)
    open_served = opener(run, out=out, runtime=runtime, trust=trust)
    with listen(host, port) as sock:
        served = open_served()
        limits = Limits(max_photos, max_megabytes * 2**20, max(256, 2 * max_megabytes) * 2**20, time_limit)
        newer = _newer(out, runtime) if run == "last" else None
        with contextlib.suppress(KeyboardInterrupt):  # which is how it is meant to end
            click.echo(url_of(host, sock))
            progress.say(f"serving {served.about.name}; Ctrl-C ends it. {served.about.words[0]}")
            serve_until_stopped(served, access, sock, limits=limits, say=progress.say, newer=newer)


def _newer(out: str, runtime: str | None) -> Callable[[], Served | None]:
    """Loads the newest run of a folder once it is another one than before."""
    from finetunekit.runs.folder import find_run
    from finetunekit.serving.server import opener

    known = [find_run("last", Path(out))]

    def look() -> Served | None:
        newest = find_run("last", Path(out))
        if newest == known[-1]:
            return None
        known.append(newest)
        return opener(newest, out=out, runtime=runtime, trust=False)()

    return look
