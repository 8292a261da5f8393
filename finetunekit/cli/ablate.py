"""`finetunekit ablate`."""

from __future__ import annotations

from pathlib import Path

import click

from finetunekit.cli.common import json_option, make_progress, on_option, preset_options, print_json, print_lines


@click.command("ablate")
@preset_options
@click.option(
    "--vary",
    multiple=True,
    required=True,
    metavar="KEY=V1,V2,…",
    help="A key as for --set, or image_size, source_px, contract, freeze.n, augmentation (on, off). Repeatable.",
)
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Runs per cell.")
@click.option("--grid", is_flag=True, help="Try every combination of values instead of one setting at a time.")
@click.option(
    "--test", "is_test", is_flag=True, help="Score the test split too; every run then counts as an opening of it."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the ablation.  [default: runs/NAME-ablation]")
@on_option
@json_option
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(
    preset: str,
    settings: tuple[str, ...],
    seed: int | None,
    vary: tuple[str, ...],
    *,
    seeds: int,
    grid: bool,
    is_test: bool,
    out: Path | None,
    on: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Vary settings of PRESET and show what each value does to its accuracy on the validation photos.

    Makes one whole run per value and seed, from cached features if there are any; the preset's own value is always
    included. If it is interrupted, the same command continues: what is finished in --out is never run again. The last
    line on stdout is the path of the page.
    """
    from finetunekit.experiments.ablation import run_ablation

    result = run_ablation(
        preset,
        vary,
        settings=settings,
        seed=seed,
        seeds=seeds,
        is_grid=grid,
        is_test=is_test,
        out=out,
        on=on,
        progress=make_progress(is_quiet=quiet),
    )
    if as_json:
        print_json({"path": result.path, "files": result.files, **result.scores})
        return
    figures = [f"figure: {path}" for path in result.files if path.suffix == ".svg"]
    print_lines([*result.summary, *figures, result.path / "ablation.html"])
