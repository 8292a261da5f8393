"""`finetunekit tune`."""

from __future__ import annotations

from pathlib import Path

import click

from finetunekit.cli.common import json_option, make_progress, on_option, preset_options, print_json, print_lines


@click.command("tune")
@preset_options
@click.option(
    "--vary",
    multiple=True,
    metavar="KEY=VALUES",
    help="V1,V2,… or log:LOW:HIGH, lin:LOW:HIGH, int:LOW:HIGH; KEY as for --set. Repeatable, over the preset's tune.vary.",
)
@click.option("--trials", type=click.IntRange(1, 10_000), help="Trials in all.  [default: the preset's, 40]")
@click.option(
    "--pruner",
    type=click.Choice(["median", "halving", "none"]),
    help="Which trials are stopped early.  [default: the preset's, median]",
)
@click.option(
    "--nested",
    type=click.IntRange(3, 100),
    metavar="K",
    help="Search again in each of K folds of all photos, to say what searching is worth; takes K times as long more.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the search.  [default: runs/NAME-tune]")
@on_option
@json_option
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(
    preset: str,
    settings: tuple[str, ...],
    seed: int | None,
    vary: tuple[str, ...],
    *,
    trials: int | None,
    pruner: str | None,
    nested: int | None,
    out: Path | None,
    on: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Search settings of PRESET for the lowest log loss on the validation photos.

    The preset itself is the first trial; Optuna proposes the others. The test split stays closed until the winner is
    run on it once. If it is interrupted, the same command continues; run several times at once, it shares the trials.
    The last line on stdout is the path of the page.
    """
    from finetunekit.experiments.tuning import run_tune

    result = run_tune(
        preset,
        vary,
        settings=settings,
        seed=seed,
        trials=trials,
        pruner=pruner,
        nested=nested,
        out=out,
        on=on,
        progress=make_progress(is_quiet=quiet),
    )
    if as_json:
        print_json({"path": result.path, "files": result.files, **result.scores})
        return
    print_lines([*result.summary, result.path / "tune.html"])
