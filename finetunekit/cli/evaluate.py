"""`finetunekit evaluate`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from finetunekit.cli.common import (
    json_option,
    listing_options,
    make_progress,
    out_option,
    print_json,
    print_lines,
    trust_option,
)
from finetunekit.system.formatting import counted, show_percent, show_range
from finetunekit.system.terminal import wrap


@click.command("evaluate")
@click.argument("run")
@click.option(
    "--data",
    "folder",
    required=True,
    metavar="PHOTOS",
    type=click.Path(path_type=Path),
    help="Labelled photos: a folder with one folder per class, a table or an archive.",
)
@listing_options
@out_option
@trust_option
@json_option
def command(run: str, folder: Path, options: tuple[str, ...], out: str, as_json: bool, trust: bool) -> None:
    """Score RUN on labelled photos that it has not seen. Classes are matched by name."""
    from finetunekit.data.photo_paths import labelled_photos
    from finetunekit.evaluation.predictor import calibration_words, find_network, load
    from finetunekit.runs.introduction import introduce

    progress = make_progress()
    finished = find_network(run, out=out)
    for line in introduce(finished, asked=run, out=out):
        progress.say(line)
    labelled_photos(
        folder, finished.classes, options=options, say=progress.say
    )  # a wrong folder is said before a network is loaded
    loaded = load(finished.path, progress=progress, trust=trust)
    scores = loaded.evaluate(folder, options=options, count=progress.counter("evaluating"))
    if "uncounted" in scores:
        progress.say(f"warning: this scoring of the photos is not counted: {scores['uncounted']}")
    if as_json:
        print_json(scores)
        return
    progress.say(calibration_words(loaded.run))
    print_lines(_seen_lines(scores["seen"], scores["photos"]))
    if scores["tested"]:
        print_lines(
            wrap(
                f"NOTE {counted(scores['tested'], 'photo')} of these {_are(scores['tested'])} of the run's own test split."
            )
        )
    is_mixed = scores["unseen"] and any(scores["seen"].values())
    if is_mixed:
        unseen = "new photos" if not scores["tested"] else "photos that it was not trained on"
        _echo_scores(scores["unseen"], loaded.classes, unseen)
        print_lines(["including those that it has seen:"])
    _echo_scores(scores, loaded.classes, "photos")
    if scores["unlike"]:
        print_lines([f"{scores['unlike']:,} of {scores['photos']:,} photos are unlike any training photo"])
    openings = scores["openings"]
    if openings is None:
        return
    times = "once" if openings["openings"] == 1 else f"{openings['openings']:,} times"
    print_lines([f"these photos have now been scored {times}, by {counted(openings['configs'], 'configuration')}"])


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _seen_lines(seen: Mapping[str, int], photos: int) -> Iterator[str]:
    """A warning in lines of at most 80 columns where the run has met some of the photos before."""
    if not any(seen.values()):
        return
    used = {"train": "the run was trained on", "valid": "chose its epochs and settings (validation)"}
    parts = " and ".join(f"{count:,} {used[split]}" for split, count in seen.items() if count)
    rest = photos - sum(seen.values())
    then = (
        "Only the score of the others says how it does on new photos."
        if rest
        else "None is new: the score is flattered."
    )
    yield from wrap(f"WARNING of these {photos:,} photos, {parts}. {then}")


def _echo_scores(scores: Mapping[str, Any], classes: Sequence[str], what: str) -> None:
    accuracy = scores["accuracy"]
    recalls = [(name, row["recall"]) for name, row in zip(classes, scores["classes"], strict=True) if row["recall"]]
    print_lines(
        [
            f"{accuracy['successes']} of {accuracy['photos']} {what} right: {show_percent(accuracy['value'])} "
            f"(95 % interval {show_range(accuracy['interval'])} %)",
            *(f"  {name}: {recall['successes']} of {recall['photos']} found" for name, recall in recalls),
        ]
    )
