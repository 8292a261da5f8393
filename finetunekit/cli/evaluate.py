"""`finetunekit evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from finetunekit.cli.common import json_option, make_progress, out_option, print_json


@click.command("evaluate")
@click.argument("run")
@click.option(
    "--data",
    "folder",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with one folder of photos a class.",
)
@out_option
@json_option
def command(run: str, folder: Path, out: str, as_json: bool) -> None:
    """Score RUN on labelled photos that it has not seen: DIR/<class>/photo.jpg, classes matched by name."""
    from finetunekit.inference import load

    progress = make_progress()
    loaded = load(run, out=out)
    scores = loaded.evaluate(folder, count=progress.counter("evaluating"))
    if as_json:
        print_json(scores)
        return
    accuracy = scores["accuracy"]
    interval = accuracy["interval"]
    click.echo(
        f"{accuracy['successes']} of {accuracy['photos']} photos right: {accuracy['value']:.1%} "
        f"(95 % interval {interval['low']:.1%} to {interval['high']:.1%})"
    )
    for name, row in zip(loaded.classes, scores["classes"], strict=True):
        recall = row["recall"]
        if recall is not None:
            click.echo(f"  {name}: {recall['successes']} of {recall['photos']} found")
    openings = scores["openings"]
    click.echo(
        f"these photos have now been scored {openings['openings']} times, by {openings['configs']} configurations"
    )
