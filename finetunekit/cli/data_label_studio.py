"""`finetunekit data label-studio`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from finetunekit.cli.common import WholeLines, make_progress, out_option, print_lines
from finetunekit.system.formatting import counted


@click.group("label-studio", cls=WholeLines)
def label_studio() -> None:
    """Import labels from Label Studio, and export photos with predictions to it."""


@label_studio.command("export")
@click.argument("photos", metavar="RUN|SUGGESTIONS")
@click.option(
    "--write",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    default="tasks.json",
    show_default=True,
    help="Tasks to import into Label Studio.",
)
@click.option("--prefix", default="/data/local-files/?d=", show_default=True, help="What comes before a photo's path.")
@click.option("--labels", is_flag=True, help="A run's labels come along as annotations.")
@out_option
def export(*, photos: str, target: Path, prefix: str, labels: bool, out: str) -> None:
    """Write photos of a run, or photos to label next, as tasks with predictions, together with the labelling
    configuration."""
    from finetunekit.data.label_studio import labelling_config, tasks_of
    from finetunekit.system.files import to_json, write_whole

    rows, classes, model = _photos(photos, out)
    config = target.with_suffix(".xml")
    write_whole(target, to_json(tasks_of(rows, prefix=prefix, model=model, with_labels=labels)))
    write_whole(config, labelling_config(classes))
    print_lines([f"{counted(len(rows), 'task')}; labelling configuration: {config}", target])


def _photos(photos: str, out: str) -> tuple[list[dict[str, Any]], tuple[str, ...], str]:
    """Rows for `tasks_of`, classes, and the name of the run."""
    from finetunekit.evaluation.suggestions import read_suggestions
    from finetunekit.runs.folder import FinishedRun, find_run
    from finetunekit.types import DISPLAY

    if photos.lower().endswith(".json"):
        found = read_suggestions(Path(photos))
        return (
            [
                {"path": p.path, "sha256": p.sha256, "predicted": p.label, "probability": p.probability}
                for p in found.photos
            ],
            found.classes,
            found.run,
        )
    run = FinishedRun(find_run(photos, Path(out)))
    rows = [
        {
            "path": row["path"],
            "sha256": row["sha256"],
            "predicted": row["predicted"],
            "probability": row[f"p_{row['predicted']}"],
            "label": row["true"],
        }
        for row in run.predictions
        if row["split"] != DISPLAY
    ]
    return rows, run.classes, run.path.resolve().name


@label_studio.command("import")
@click.argument("export", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("photos", type=click.Path(path_type=Path))
@click.option("--decisions", type=click.Path(path_type=Path, dir_okay=False), default="decisions.csv", show_default=True,
              help="Labels are added to it.")  # fmt: skip
def import_labels(*, export: Path, photos: Path, decisions: Path) -> None:
    """Add the labels of a Label Studio EXPORT (JSON or JSON-MIN) to decisions about the PHOTOS in a folder.

    No address in the export is opened: photos are matched by name. Labels that are there already are not added again.
    """
    from finetunekit.data.decisions import DecidedAbout, in_force, open_decisions
    from finetunekit.data.index import photo_name
    from finetunekit.data.known_photos import photo_sha256
    from finetunekit.data.label_studio import match_names, read_labels
    from finetunekit.data.photo_paths import find_photos

    progress = make_progress()
    labels, notes = read_labels(export)
    for note in notes:
        progress.say(f"note: {note}")
    root = photos.resolve()
    names = {photo_name(path, root): path for path in find_photos([root])}
    added = 0
    with open_decisions(decisions) as file:
        held = {one.path: one.now for one in in_force(file.decisions) if one.kind == "label"}
        for label, name in match_names(labels, names).items():
            if held.get(name) != label.label:
                about = DecidedAbout(name, photo_sha256(names[name]), "")
                why = f"label studio: task {label.task}{f', {label.when}' if label.when else ''}"
                file.add("label", [about], who=f"Label Studio {label.who}".strip(), now=label.label, why=why)
                added += 1
    print_lines([f"{counted(added, 'label')} added, {len(labels) - added} already there", decisions])
