"""`finetunekit explain`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from finetunekit.cli.common import json_option, make_progress, out_option, print_json, print_lines


@click.command("explain")
@click.argument("run")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option
@json_option
@click.option(
    "--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="The page. [default: RUN/explanation.html]"
)
@click.option(
    "--neighbours",
    type=click.IntRange(1, 50),
    default=5,
    show_default=True,
    help="Training photos shown for each photo.",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Also show a set of classes that contains the true one for at least this fraction of photos.",
)
def command(
    run: str,
    paths: tuple[Path, ...],
    out: str,
    as_json: bool,
    page: Path | None,
    neighbours: int,
    coverage: float | None,
) -> None:
    """Show on one page why RUN answers as it does: where it looked, the runner-up, and the most similar training
    photos.

    With --json it prints the same as values, and writes no page unless --html names one.
    """
    from finetunekit.data.photo_paths import find_photos
    from finetunekit.evaluation.explanation import explain
    from finetunekit.evaluation.likeness import unlike_notes
    from finetunekit.evaluation.prediction_files import check_targets
    from finetunekit.evaluation.predictor import calibration_words, find_network, load

    progress = make_progress()
    finished = find_network(run, out=out)
    photos = find_photos(paths, say=progress.say)
    target = page or (None if as_json else finished.path / "explanation.html")
    check_targets(target, None, finished.classes)
    loaded = load(finished.path, progress=progress)
    found = explain(loaded, photos, coverage=coverage, neighbours=neighbours, count=progress.counter("explaining"))
    content = found.to_json()
    if target is not None:
        from finetunekit.reports.explanation_page import explanation_page
        from finetunekit.system.files import write_whole

        sets = loaded.sets(coverage).words() if coverage is not None else ()
        words = [calibration_words(loaded.run), *unlike_notes(loaded.training), *sets]
        write_whole(target, explanation_page(loaded.run, content, words))
    if as_json:
        print_json(content)
        return
    print_lines([line for one in content["photos"] for line in _lines(one)] + [str(target)])


def _lines(one: Mapping[str, Any]) -> list[str]:
    from finetunekit.evaluation.likeness import unlike_words

    second, near = one["runner_up"], ", ".join(f"{photo['label']} {photo['cosine']:.2f}" for photo in one["neighbours"])
    return [
        one["path"],
        *([f"  {unlike_words(one['unlike_p'])}"] if one["is_unlike"] else []),
        f"  {one['best']} {one['probability']:.1%}, runner-up {second['class']} {second['probability']:.1%}",
        f"  most alike: {near or 'not kept'}",
    ]
