"""`finetunekit run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetunekit.cli.common import (
    json_option,
    make_progress,
    on_option,
    out_option,
    preset_options,
    print_json,
    print_lines,
    track_option,
)

if TYPE_CHECKING:
    from finetunekit.experiments.run_group import GroupResult


@click.command("run")
@preset_options
@track_option
@on_option
@out_option
@json_option
@click.option("--seeds", type=click.IntRange(2, 1000), help="Run this many seeds and report their spread.")
@click.option("--folds", type=click.IntRange(3, 100), help="Cross-validate with this many folds (train.folds).")
@click.option(
    "--leave-out",
    "sources",
    metavar="GROUP",
    multiple=True,
    help="Also train without the photos of this group and test on them; 'each': every group. Repeatable.",
)
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(
    *,
    preset: str,
    settings: tuple[str, ...],
    seed: int | None,
    trackers: tuple[str, ...],
    on: str | None,
    out: str,
    as_json: bool,
    seeds: int | None,
    folds: int | None,
    sources: tuple[str, ...],
    quiet: bool,
) -> None:
    """Train, evaluate and report: run a preset, or the preset 'small-data' on your own PHOTOS.

    PRESET is a preset's name or the path of a YAML file. PHOTOS is a folder that contains one folder per class, or
    train, valid and test folders with one folder per class in each. It can also be a table or an archive. The run is
    named after the photos.

    \b
    finetunekit run photos/                  small-data, on your photos
    finetunekit run photos/ --recipe fast    another preset: fast, best, any
    finetunekit run felidae4                 a preset with its own photos

    The last line on stdout is the path of the report, or of the run's folder if its reports have no page. --seeds,
    --folds and --leave-out make several runs in one folder, and the last line is the folder's path; 'finetunekit
    resume' continues where they stopped.
    """
    progress = make_progress(is_quiet=quiet)
    if trackers:
        from finetunekit.engine.track import tracker_settings

        settings = (*settings, *tracker_settings(trackers))
    from finetunekit.config.executor_choice import executor_settings

    settings = (*settings, f"train.folds={folds}") if folds else settings
    if sources:
        if seeds is not None or folds is not None:
            raise click.UsageError("--leave-out goes with neither --seeds nor --folds.")
        from finetunekit.experiments.leave_out import run_left_out

        group = run_left_out(preset, sources, settings=settings, seed=seed, out=out, on=on, progress=progress)
        echo_run_group(group, as_json=as_json)
        return
    if seeds is not None:
        from finetunekit.experiments.seeds import run_seeds

        group = run_seeds(preset, seeds, settings=settings, seed=seed, out=out, on=on, progress=progress)
        echo_run_group(group, as_json=as_json)
        return
    if _is_cross_validation(preset, (*executor_settings(on), *settings)):
        from finetunekit.experiments.cross_validation import run_folds

        group = run_folds(preset, settings=settings, seed=seed, out=out, on=on, progress=progress)
        echo_run_group(group, as_json=as_json)
        return
    from finetunekit.engine.api import run  # after what is wrong with the configuration was said
    from finetunekit.runs.folder import report_page

    result = run(preset, settings=settings, seed=seed, out=out, on=on, progress=progress)
    if as_json:
        print_json({"path": result.path, "metrics": result.metrics})
        return
    print_lines([*result.summary, report_page(result.path)])


def _is_cross_validation(preset: str, settings: tuple[str, ...]) -> bool:
    from finetunekit.config.planning import prepare

    train = prepare(preset, settings=settings, progress=make_progress(is_quiet=True))[0].config.train
    return train.folds is not None and train.fold is None


def echo_run_group(found: GroupResult, *, as_json: bool) -> None:
    """Print what several runs say together and the page of each; the last line is their folder."""
    from finetunekit.runs.folder import report_page

    if as_json:
        print_json({"path": found.path, "runs": [result.path for result in found.runs], "scores": found.scores})
        return
    print_lines([*found.summary, *(report_page(result.path) for result in found.runs), found.path])
