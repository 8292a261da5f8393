"""`finetunekit track`."""

from __future__ import annotations

import dataclasses

import click

from finetunekit.cli.common import (
    json_option,
    make_progress,
    out_option,
    print_json,
    print_lines,
    track_option,
    trust_option,
)


@click.command("track")
@click.argument("run")
@track_option
@click.option(
    "--set", "settings", multiple=True, metavar="track[0].KEY=VALUE", help="An option of a tracker. Repeatable."
)
@out_option
@trust_option
@json_option
def command(
    run: str, trackers: tuple[str, ...], settings: tuple[str, ...], out: str, as_json: bool, trust: bool
) -> None:
    """Send RUN to its trackers: what they lack of it, or all of a run that was made without trackers.

    RUN is a run's folder, its name, 'last', or the folder of seeds, folds or an ablation. Sending twice changes nothing.
    """
    from finetunekit.engine.track import track

    sent = track(run, trackers, settings=settings, out=out, progress=make_progress(), trust=trust)
    if as_json:
        print_json([{**dataclasses.asdict(one), "path": str(one.path)} for one in sent])
        return
    print_lines(
        f"{one.tracker}: {one.path.name} ({one.status}) is run {one.run_id}; {one.sent_epochs} epochs sent"
        for one in sent
    )
