"""`finetunekit predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetunekit.cli.common import (
    json_option,
    listing_options,
    make_progress,
    on_option,
    print_json,
    print_lines,
    print_table,
    print_written,
    shard_option,
    trust_option,
)
from finetunekit.system.terminal import wrap

if TYPE_CHECKING:
    from finetunekit.evaluation.predictor import Prediction

RUNS = "runs"


@click.command("predict")
@click.argument("run")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--data", metavar="PHOTOS", help="Any number of photos, instead of PATHS; writes Parquet shards into --out."
)
@listing_options
@click.option(
    "--out",
    metavar="DIR",
    help="Folder that holds runs [default: runs]; with --data the folder of shards to write, or its address (s3://…).",
)
@on_option
@click.option(
    "--set", "settings", multiple=True, metavar="executor.C=VALUE", help="Option of that executor. Repeatable."
)
@shard_option
@trust_option
@json_option
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write a CSV file.")
@click.option(
    "--sort-into", type=click.Path(file_okay=False, path_type=Path), help="Copy photos into DIR/<predicted class>/."
)
@click.option(
    "--abstain-below",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Give no label below this probability; --sort-into puts such photos into DIR/unsure/.",
)
@click.option("--abstain-unlike", is_flag=True, help="Give no label to photos that are unlike any training photo.")
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Give a set of classes that contains the true one for at least this fraction of photos, such as 0.9.",
)
@click.option("--per-class", "is_per_class", is_flag=True, help="With --coverage: for the photos of each class.")
@click.option(
    "--runtime", metavar="NAME", help="Ask what the run was exported to, such as onnx: no TensorFlow is loaded."
)
def command(
    *,
    run: str,
    paths: tuple[Path, ...],
    data: str | None,
    options: tuple[str, ...],
    out: str | None,
    on: str | None,
    settings: tuple[str, ...],
    shard_photos: int,
    as_json: bool,
    csv_path: Path | None,
    sort_into: Path | None,
    abstain_below: float,
    abstain_unlike: bool,
    coverage: float | None,
    is_per_class: bool,
    runtime: str | None,
    trust: bool,
) -> None:
    """Predict photos, or folders, tables and archives of them, with RUN: a run's folder, its name, or 'last'; or an exported model's.

    Photos that cannot be read are named at the end, with exit code 2; the others are predicted. With --data they are
    listed in a side table, and the same command continues where it was interrupted.
    """
    from finetunekit.data.photo_paths import find_photos
    from finetunekit.evaluation.likeness import unlike_notes
    from finetunekit.evaluation.prediction_files import check_targets
    from finetunekit.evaluation.predictor import calibration_words, find_network, load
    from finetunekit.runs.introduction import introduce

    if is_per_class and coverage is None:
        raise click.UsageError("--per-class goes with --coverage.")
    _check_usage(paths, data, out, (on, settings), alone=not (as_json or csv_path or sort_into or runtime))
    if data is not None and out is not None:
        job = {"abstain_below": abstain_below, "abstain_unlike": abstain_unlike, "coverage": coverage}
        job |= {"is_per_class": is_per_class, "trust": trust}
        _write_shards(run, data, options, out, shard_photos, (on, settings), job)
        return
    progress = make_progress()
    out = out or RUNS
    files = (as_json, csv_path, sort_into)
    if runtime is not None or _is_export(run):
        asked = {"abstain_below": abstain_below, "abstain_unlike": abstain_unlike, "coverage": coverage}
        _predict_exported(run, runtime, out, paths, options, asked, files)
        return
    finished = find_network(run, out=out)
    for line in introduce(finished, asked=run, out=out):
        progress.say(line)
    photos = find_photos(paths, options=options, say=progress.say)
    check_targets(csv_path, sort_into, finished.classes)
    loaded = load(finished.path, progress=progress, trust=trust)
    if loaded.run.stand_in:
        progress.say(f"NOTE this run was trained on {loaded.run.stand_in}")
    progress.say(calibration_words(loaded.run))
    for line in unlike_notes(loaded.training):
        progress.say(line)
    problems: list[str] = []
    predictions = loaded.predict(
        photos,
        abstain_below=abstain_below,
        abstain_unlike=abstain_unlike,
        coverage=coverage,
        is_per_class=is_per_class,
        count=progress.counter("predicting"),
        unreadable=problems.append,
    )
    words = loaded.sets(coverage, is_per_class=is_per_class).words() if coverage is not None else ()
    _give_out(predictions, loaded.classes, words, files, problems)


def _is_export(run: str) -> bool:
    from finetunekit.runs.folder import CERTIFICATE

    return (Path(run) / CERTIFICATE).is_file()


def _predict_exported(
    run: str,
    runtime: str | None,
    out: str,
    paths: Sequence[Path],
    options: tuple[str, ...],
    asked: Mapping[str, Any],
    files: tuple[bool, Path | None, Path | None],
) -> None:
    """Predict by an exported model in its own runtime."""
    from finetunekit.data.photo_paths import find_photos
    from finetunekit.evaluation.prediction_files import check_targets
    from finetunekit.serving.photo_files import predict_files
    from finetunekit.serving.served import Asked, find_export

    progress, problems = make_progress(), list[str]()
    photos = find_photos(paths, options=options, say=progress.say)
    model = find_export(run, out=out, runtime=runtime)
    check_targets(*files[1:], model.about.classes)
    for line in (f"with {model.about.name}, exported to {model.about.runtime}", *model.about.words):
        progress.say(line)
    found = predict_files(
        model, photos, Asked(**asked), count=progress.counter("predicting"), unreadable=problems.append
    )
    _give_out(found, model.about.classes, (), files, problems)


def _give_out(
    predictions: Sequence[Prediction],
    classes: Sequence[str],
    words: Iterable[str],
    files: tuple[bool, Path | None, Path | None],
    problems: list[str],
) -> None:
    """Print predictions, write the files asked for, then say what could not be read."""
    from finetunekit.errors import DataError
    from finetunekit.evaluation.prediction_files import prediction_csv, sort_photos
    from finetunekit.evaluation.predictor import as_dict

    as_json, csv_path, sort_into = files
    if as_json:
        print_json([as_dict(p) for p in predictions])
    else:
        print_table(_rows(predictions), right=(0,))
    print_lines((line for said in words for line in wrap(said)), file=sys.stderr if as_json else None)
    if csv_path:
        from finetunekit.system.files import write_whole

        write_whole(csv_path, prediction_csv(predictions, classes))
    if sort_into:
        sort_photos(predictions, sort_into)
    if problems:
        raise DataError(problems)


def _check_usage(
    paths: tuple[Path, ...],
    data: str | None,
    out: str | None,
    where: tuple[str | None, tuple[str, ...]],
    *,
    alone: bool,
) -> None:
    if any(where) and data is None:
        raise click.UsageError("--on and --set go with --data.")
    if any(not text.startswith("executor.") for text in where[1]):
        raise click.UsageError("--set is for options of the executor here, such as executor.workers=4.")
    if data is None and not paths:
        raise click.UsageError(
            "Missing argument 'PATHS...': photos, or folders, tables and archives of them; or --data."
        )
    if data is not None and (out is None or paths or not alone):
        raise click.UsageError(
            "--data goes with --out, and with neither PATHS nor --json, --csv, --sort-into or --runtime."
        )


def _write_shards(
    run: str,
    data: str,
    options: tuple[str, ...],
    folder: str,
    shard_photos: int,
    where: tuple[str | None, tuple[str, ...]],
    asked: Mapping[str, Any],
) -> None:
    """Predictions of any number of photos, with a run of the folder `runs`, or one named by its path."""
    from finetunekit.engine.shard_jobs import make_shards
    from finetunekit.evaluation.predictor import find_network
    from finetunekit.evaluation.shards.drive import write_shards
    from finetunekit.evaluation.shards.jobs import PredictionsJob
    from finetunekit.evaluation.shards.photos import plain_photos
    from finetunekit.runs.introduction import introduce
    from finetunekit.system.parquet import check_pyarrow

    check_pyarrow("predict --data")
    progress = make_progress()
    finished = find_network(run, out=RUNS)
    for line in introduce(finished, asked=run, out=RUNS):
        progress.say(line)
    make = make_shards(data, *where, progress)
    photos = plain_photos(data, options, progress)
    job = PredictionsJob(str(finished.path), **asked)
    print_written(write_shards(job, photos, folder, progress, shard_photos=shard_photos, make=make), as_json=False)


def _rows(predictions: Sequence[Prediction]) -> list[list[object]]:
    """A row a photo; of columns that only some photos need, the others have an empty cell."""
    rows = [_cells(p) for p in predictions]
    return [row + [""] * (max(map(len, rows)) - len(row)) for row in rows]


def _cells(p: Prediction) -> list[object]:
    from finetunekit.evaluation.likeness import unlike_words

    one_of = [] if p.class_set is None else [f"one of {{{', '.join(p.class_set)}}}" if p.class_set else "no class"]
    if not p.is_unlike or p.unlike_p is None:
        return [f"{p.probability:.1%}", p.label or "unsure", *one_of, p.path]
    best = max(p.probabilities, key=lambda name: p.probabilities[name])
    why = f"{unlike_words(p.unlike_p)}; of the classes {best}, {p.probability:.1%}"
    return ["–", "none of these?", *one_of, p.path, why]
