"""`finetunekit data suggest` and `finetunekit data labelled`."""

from __future__ import annotations

from pathlib import Path

import click

from finetunekit.cli.common import (
    json_option,
    make_progress,
    out_option,
    print_json,
    print_lines,
    print_table,
    trust_option,
)


@click.command("suggest")
@click.argument("run")
@click.argument("folder", metavar="UNLABELLED", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Photos to choose.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the choice.")
@click.option(
    "--write",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    default="suggestions.json",
    show_default=True,
    help="List for 'finetunekit review'.",
)
@out_option
@trust_option
@json_option
def suggest(
    *, run: str, folder: Path, count: int, seed: int, target: Path, out: str, trust: bool, as_json: bool
) -> None:
    """Choose which photos of a folder to label next: those that RUN is unsure of, and that differ from each other.

    Skips photos that the run already has, and copies.
    """
    import dataclasses

    from finetunekit.evaluation.predictor import load
    from finetunekit.evaluation.suggestions import suggest as choose
    from finetunekit.evaluation.suggestions import write_suggestions

    progress = make_progress()
    loaded = load(run, out=out, progress=progress, trust=trust)
    counter = progress.counter("asking the run")
    found = choose(
        loaded, folder, count, seed=seed, progress=counter, unreadable=lambda line: progress.say(f"note: {line}")
    )
    write_suggestions(target, found)
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    rows = [
        (
            i,
            photo.path,
            f"{photo.label} {100 * photo.probability:.0f} %",
            f"{photo.second} {100 * photo.second_probability:.0f} %",
        )
        for i, photo in enumerate(found.photos, 1)
    ]
    print_table(rows, ("", "photo", "taken for", "or"), right=(0,))
    passed = f"; {found.known} skipped that the run has, or that are copies" if found.known else ""
    print_lines(
        [f"{len(found.photos)} of {found.asked} photos chosen{passed}", f"label them: finetunekit review {target}"]
    )


@click.command("labelled")
@click.argument("folder", metavar="FOLDER|SUGGESTIONS", type=click.Path(path_type=Path))
@click.option("--decisions", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Decisions about the photos; default: the CSV of SUGGESTIONS' name, else decisions.csv.")  # fmt: skip
@click.option("--with", "run", metavar="RUN", help="A run whose photos go before them, with their labels and splits.")
@click.option(
    "--write",
    "target",
    type=click.Path(path_type=Path),
    default="labelled.csv",
    show_default=True,
    help="Table to write.",
)
@click.option("--replace", is_flag=True, help="Overwrite a table with different content.")
@out_option
@json_option
def labelled(
    *, folder: Path, decisions: Path | None, run: str | None, target: Path, replace: bool, out: str, as_json: bool
) -> None:
    """Write a table of the photos that were labelled in a review, for the data source 'table'.

    New photos go to training: they were chosen and not drawn at random, so a score on them would say little.
    """
    from finetunekit.cli.data_split import flow
    from finetunekit.data.labelled_table import labelled_photos
    from finetunekit.data.split_table import write_split
    from finetunekit.evaluation.suggestions import read_suggestions
    from finetunekit.runs.folder import FinishedRun, find_run

    is_list = folder.suffix.lower() == ".json"
    root = Path(read_suggestions(folder).folder) if is_list else folder
    decisions = decisions or (folder.with_suffix(".csv") if is_list else Path("decisions.csv"))
    finished = FinishedRun(find_run(run, Path(out))) if run is not None else None
    found, base = labelled_photos(root, decisions, finished)
    photos = write_split(found, target, base, is_replacing=replace)
    data = {"source": "table", "root": str(target), "options": {"photos": str(photos)} if photos else {}}
    if as_json:
        print_json({"path": target, "counts": found.counts(), "data": data})
        return
    counts = found.counts()
    header = ("class", *found.names, "all")
    print_table(
        [(name, *parts.values(), sum(parts.values())) for name, parts in counts.items()],
        header,
        right=range(1, len(header)),
    )
    print_lines([*(f"note: {note}" for note in found.notes), f"data: {flow(data)}", target])
