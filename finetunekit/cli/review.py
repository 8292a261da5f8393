"""`finetunekit review`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from finetunekit.cli.common import make_progress, out_option, server_options, trust_option


@click.command("review")
@click.argument("photos", metavar="DIR|TABLE|ARCHIVE|PRESET|RUN|SUGGESTIONS")
@click.option(
    "--decisions",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File that decisions are written to; default: what data.decisions names, the CSV of SUGGESTIONS' name, or decisions.csv.",
)
@click.option("--source", metavar="NAME", help="Data source that reads the path; the default depends on the path.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE",
              help="Option of the data source, such as photos=DIR for a table. Repeatable.")  # fmt: skip
@click.option(
    "--network/--no-network",
    "has_network",
    default=None,
    help="Look for wrong labels, and make the map, with a pretrained network; default: if its weights are on this machine.",
)
@server_options(8001)
@out_option
@trust_option
def command(
    *,
    photos: str,
    decisions: Path | None,
    source: str | None,
    options: tuple[str, ...],
    has_network: bool | None,
    port: int,
    host: str,
    token: str | None,
    names: tuple[str, ...],
    out: str,
    trust: bool,
) -> None:
    """Correct photos on a local page that shows findings of the audit, mistakes of a run, and all photos on a map.

    Photos are never changed: each decision is a line in a CSV file that data.decisions names.
    """
    from finetunekit.serving.guard import decide_access
    from finetunekit.serving.review.app import make_review_app
    from finetunekit.serving.review.opening import open_review
    from finetunekit.serving.server import check_installed, listen, url_of, uvicorn_server

    progress = make_progress()
    check_installed("review")
    access = decide_access(host, token, names)
    with (
        listen(host, port) as sock,
        open_review(
            photos,
            decisions=decisions,
            source=source,
            options=options,
            has_network=has_network,
            out=out,
            trust=trust,
            progress=progress,
        ) as opened,
    ):
        server = uvicorn_server(lambda: make_review_app(opened, access, progress.say), connections=64)
        with contextlib.suppress(KeyboardInterrupt):  # which is how it is meant to end
            click.echo(url_of(host, sock))
            progress.say(f"reviewing {opened.review.name}; decisions go to {opened.decisions}; Ctrl-C ends it")
            server.run([sock])
