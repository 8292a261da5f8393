"""`finetunekit predict`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetunekit.cli.common import (
    json_option,
    listing_options,
    make_progress,
    out_option,
    print_json,
    print_lines,
    print_table,
    trust_option,
)
from finetunekit.system.terminal import wrap

if TYPE_CHECKING:
    from finetunekit.evaluation.predictor import Prediction


@click.command("predict")
@click.argument("run")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@listing_options
@out_option
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
    help="Give no label below this probability; sorted into DIR/unsure/.",
)
@click.option(
    "--abstain-unlike", is_flag=True, help="Give no label to photos that are unlike any training photo; as above."
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Give a set of classes that holds the true one for at least this share of photos, such as 0.9.",
)
@click.option("--per-class", "is_per_class", is_flag=True, help="With --coverage: for the photos of each class.")
def command(
    *,
    run: str,
    paths: tuple[Path, ...],
    options: tuple[str, ...],
    out: str,
    as_json: bool,
    csv_path: Path | None,
    sort_into: Path | None,
    abstain_below: float,
    abstain_unlike: bool,
    coverage: float | None,
    is_per_class: bool,
    trust: bool,
) -> None:
    """Predict photos, or folders, tables and archives of them, with RUN: a run's folder, its name, or 'last'.

    Photos that cannot be read are named at the end, with exit code 2; the others are predicted.
    """
    from finetunekit.data.photo_paths import find_photos
    from finetunekit.errors import DataError
    from finetunekit.evaluation.likeness import unlike_notes
    from finetunekit.evaluation.prediction_files import check_targets, prediction_csv, sort_photos
    from finetunekit.evaluation.predictor import as_dict, calibration_words, find_network, load
    from finetunekit.runs.introduction import introduce

    if is_per_class and coverage is None:
        raise click.UsageError("--per-class goes with --coverage.")
    progress = make_progress()
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
    if as_json:
        print_json([as_dict(p) for p in predictions])
    else:
        print_table(_rows(predictions), right=(0,))
    if coverage is not None:
        sets = loaded.sets(coverage, is_per_class=is_per_class)
        print_lines((line for words in sets.words() for line in wrap(words)), file=sys.stderr if as_json else None)
    if csv_path:
        from finetunekit.system.files import write_whole

        write_whole(csv_path, prediction_csv(predictions, loaded.classes))
    if sort_into:
        sort_photos(predictions, sort_into)
    if problems:
        raise DataError(problems)


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
