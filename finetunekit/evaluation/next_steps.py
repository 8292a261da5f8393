"""What to do now: a simpler method that did better, photos to look at or to add, another backbone, or nothing; each with its command."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetunekit.config.joined_backbone import PLUS
from finetunekit.config.own_photos import source_of
from finetunekit.config.plan import Plan
from finetunekit.data.audit.labels import suspect_labels
from finetunekit.data.index import PhotoIndex, shown_name
from finetunekit.models.linear_probe.learning_curve import LearningCurve
from finetunekit.models.weights import weights_availability
from finetunekit.runs.folder import AUDIT, CONFIG, FinishedRun
from finetunekit.system.formatting import counted, show_expected
from finetunekit.types import TRAIN, BackboneSpec

NAMED = 3
"""Photos and classes that a sentence names."""
UNSURE = 0.3
"""A photo whose two most probable classes are this near lies near the boundary."""
SURE = 0.9
"""A mistake this sure may be the label's."""
FEWEST_WRONG = 5
"""With fewer mistakes nothing is said of a class: they are luck."""
MOST_TIMES = 12.0
"""Photos of a class times this many are no advice."""
LARGEST = 4
"""Another backbone may have this many times the parameters."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        kind: `own_photos`, `leaks`, `baseline`, `labels`, `photos`, `backbone`, `boundary` or `ship`.
        what: What to do and why, in sentences.
        command: The command that does it; None where none does.
        photos: Photos that it is about, as `predictions.csv` names them, with their SHA-256 and what is said of each.
    """

    kind: str
    what: str
    command: str | None
    photos: tuple[Mapping[str, str], ...] = ()


def next_steps(
    plan: Plan,
    index: PhotoIndex,
    answers: Sequence[Mapping[str, str]],
    accuracy: Mapping[str, Any],
    baselines: Sequence[Mapping[str, Any]],
    curve: LearningCurve | None,
    backbones: Mapping[str, BackboneSpec],
    run: Path,
) -> dict[str, Any]:
    """Content of `next_steps.json`.

    Args:
        plan: The run's.
        index: Its photos.
        answers: Rows of `predictions.csv` of the test split.
        accuracy: Of the test split, as `metrics.json` has it.
        baselines: As `baselines.json` has them.
        curve: Of a probe on the training photos; None where there is none.
        backbones: Every backbone there is.
        run: The run folder.

    Returns:
        Plain values: `curve` without its probabilities, None where there is none; and `steps`, the most useful first.
    """
    steps = list(_steps(plan, index, answers, accuracy, baselines, curve, backbones, run))
    kept = ("photos", "errors", "slope", "interval", "wrong", "of")
    plain = dataclasses.asdict(curve) if curve else {}
    return {
        "curve": {name: plain[name] for name in kept} if curve else None,
        "steps": [dataclasses.asdict(step) for step in steps],
    }


def _steps(
    plan: Plan,
    index: PhotoIndex,
    answers: Sequence[Mapping[str, str]],
    accuracy: Mapping[str, Any],
    baselines: Sequence[Mapping[str, Any]],
    curve: LearningCurve | None,
    backbones: Mapping[str, BackboneSpec],
    run: Path,
) -> Iterator[Step]:
    if index.stand_in:
        yield Step(
            "own_photos",
            "These photos are a stand-in. Put your own into one folder per class and run:",
            "finetunekit run PHOTOS/",
        )
        return
    photos = _photos_of(plan, run)
    leaks = list(_leaks(plan, photos, FinishedRun(run).optional(AUDIT)))
    yield from leaks
    doubtful = [*_suspects(index, curve), *_sure_mistakes(answers)]
    wrong = accuracy["photos"] - accuracy["successes"]
    ship = f"finetunekit export {shlex.quote(str(run))} --to litert"
    if not wrong and not doubtful and not leaks:
        yield Step("ship", "Nothing: no test photo was wrong and no label looks wrong. Ship it:", ship)
        return
    simpler = _simpler(plan, baselines, photos, run)
    if simpler:
        yield simpler
    if doubtful:
        what = f"Look at {counted(len(doubtful), 'photo')} whose label may be wrong: {_names(doubtful)}. The audit shows them:"
        yield Step("labels", what, f"finetunekit data audit {photos} --network --html audit.html", tuple(doubtful))
    more = _more_photos(index.classes, curve)
    if more:
        yield more
    if wrong:
        yield from _other_backbones(plan, backbones, photos, is_flat=curve is not None and not curve.is_rising)
        yield from _boundary(answers, index.classes, run)
    if not simpler and not leaks:
        yield Step("ship", f"Or ship it, if {show_expected(accuracy['interval'])} right is good enough:", ship)


def _leaks(plan: Plan, photos: str, audit: Mapping[str, Any] | None) -> Iterator[Step]:
    """Photos that were learnt from and tested on: the score is about memory as well."""
    findings = audit["findings"] if audit else ()
    for found in findings:
        if found["kind"] == "leak" and found["severity"] != "note":
            listed = ", ".join(["exclude.csv", *plan.config.data.exclude])
            what = (
                f"Leave copies out: {found['title']}, so that the score is partly memory. This lists them; read the list, then run again "
                f"with --set 'data.exclude=[{listed}]':"
            )
            yield Step("leaks", what, f"finetunekit data audit {photos} --fix exclude.csv")


def _simpler(plan: Plan, baselines: Sequence[Mapping[str, Any]], photos: str, run: Path) -> Step | None:
    """The best baseline that is told apart from the run and did better; None where there is none."""
    better = [one for one in baselines if "against" in one and one["against"]["is_told_apart"]]
    better = [one for one in better if one["against"]["difference"] < 0]
    if not better:
        return None
    best = max(better, key=lambda one: float(one["accuracy"]["value"]))
    points = f"{-100 * best['against']['difference']:.1f} points"
    if best["name"].endswith("_own"):
        what = (
            f"Feed the network the pixels that it was pretrained with: with them {best['title'].split(',')[0]} on its frozen features did "
            f"better than this run, by {points}:"
        )
        again = f"finetunekit run {shlex.quote(str(run / CONFIG))} --set pixels.contract=backbone"
        return Step("baseline", what, again)
    what = f"Train less: {best['title']} did better than this run, by {points}. This recipe uses such a method:"
    return Step("baseline", what, f"finetunekit run {photos} --recipe fast")


def _photos_of(plan: Plan, run: Path) -> str:
    """What the verbs take for these photos: their folder, table or archive where that says it all, else the run's configuration."""
    data = plan.config.data
    is_as_listed = not data.options and not data.exclude and data.decisions is None
    is_plain = is_as_listed and data.root and source_of(Path(data.root)) == data.source
    return shlex.quote(data.root if is_plain and data.root else str(run / CONFIG))


def _suspects(index: PhotoIndex, curve: LearningCurve | None) -> Iterator[dict[str, str]]:
    """Training photos that a probe which has not seen them takes for another class, as the audit counts them."""
    if curve is None:
        return
    train, labels = index.split(TRAIN), index.labels(TRAIN)
    for position, other in zip(*suspect_labels(curve.probabilities, labels[curve.used]), strict=True):
        photo = train[int(curve.used[position])]
        said = f"labelled {photo.label}, looks like {index.classes[int(other)]}"
        yield {"path": photo.name, "sha256": photo.sha256, "split": TRAIN, "says": said}


def _sure_mistakes(answers: Sequence[Mapping[str, str]]) -> Iterator[dict[str, str]]:
    wrong = [row for row in answers if row["predicted"] != row["true"] and _probability(row) >= SURE]
    for row in sorted(wrong, key=_probability, reverse=True):
        said = f"labelled {row['true']}, the network is {100 * _probability(row):.0f} % sure of {row['predicted']}"
        yield {"path": row["path"], "sha256": row["sha256"], "split": row["split"], "says": said}


def _probability(row: Mapping[str, str]) -> float:
    return float(row[f"p_{row['predicted']}"])


def _names(photos: Sequence[Mapping[str, str]]) -> str:
    named = "; ".join(f"{shown_name(photo['path'])} ({photo['says']})" for photo in photos[:NAMED])
    return f"{named}; and {len(photos) - NAMED} more" if len(photos) > NAMED else named


def _more_photos(classes: Sequence[str], curve: LearningCurve | None) -> Step | None:
    """Of the classes that most mistakes are made in, where the curve shows that more photos help."""
    if curve is None or not curve.is_rising or sum(curve.wrong) < FEWEST_WRONG:
        return None
    times, least, most = curve.times_to_halve()
    if times > MOST_TIMES:
        return None
    needy = sorted(range(len(classes)), key=lambda c: -curve.wrong[c])[:NAMED]
    needy = [c for c in needy if curve.wrong[c] * len(classes) >= sum(curve.wrong)]
    asked = ", ".join(f"{_about(curve.of[c] * (times - 1))} more of '{classes[c]}'" for c in needy)
    of = "; ".join(f"{curve.wrong[c]:,} of {curve.of[c]:,} '{classes[c]}'" for c in needy)
    upper = f"{_about(curve.of[needy[0]] * (most - 1))}" if most <= 10 * MOST_TIMES else "far more"
    what = (
        f"Add photos: about {asked}. A probe took {of} of the training photos for another class; that many more should halve its mistakes "
        f"(95 % interval for '{classes[needy[0]]}': {_about(curve.of[needy[0]] * (least - 1))} to {upper}). Photos that differ from those "
        "you have help most. Then run it again."
    )
    return Step("photos", what, None)


def _about(photos: float) -> str:
    """Two significant digits: the guess carries no more."""
    return f"{int(float(f'{max(1.0, photos):.1e}')):,}"


def _other_backbones(
    plan: Plan, backbones: Mapping[str, BackboneSpec], photos: str, *, is_flat: bool
) -> Iterator[Step]:
    spec, own = plan.spec, plan.backbone.name
    parts = [backbones.get(name, spec) for name in own.split(PLUS)]
    score, title = max(((part.top_1_percent or 0.0, part.title) for part in parts), key=lambda part: part[0])
    better = [
        (other.top_1_percent, name, other)
        for name, other in backbones.items()
        if score and other.top_1_percent is not None and other.top_1_percent > score
        and other.parameters <= LARGEST * spec.parameters
    ]  # fmt: skip
    if not better:
        return
    at_hand = [one for one in better if weights_availability(one[1], one[2]).place in ("here", "keras", "index")]
    chosen = sorted(at_hand or better, key=lambda one: one[2].parameters)[:2]
    named = " and ".join(f"{other.title} ({top:.1f} % on ImageNet)" for top, _, other in chosen)
    flat = "More photos like these were not shown to help. " if is_flat else ""
    names = ",".join((own, *(name for _, name, _ in chosen)))
    what = f"{flat}Try another backbone: {named}, against {title} ({score:.1f} %). A probe ranks them in a few minutes:"
    yield Step("backbone", what, f"finetunekit probe {photos} --backbones {names} --write better.yaml")


def _hesitation(row: Mapping[str, str]) -> str:
    sure = f"{100 * _probability(row):.0f} %"
    if row["predicted"] == row["true"]:
        return f"{row['true']}, rightly, but {sure} sure"
    return f"{row['true']}, {sure} sure of {row['predicted']}"


def _boundary(answers: Sequence[Mapping[str, str]], classes: Sequence[str], run: Path) -> Iterator[Step]:
    """Test photos whose two most probable classes are near each other."""
    found = []
    for row in answers:
        first, second = np.sort([float(row[f"p_{name}"]) for name in classes])[:-3:-1]
        if first - second < UNSURE:
            found.append((first - second, row))
    photos = [
        {"path": row["path"], "sha256": row["sha256"], "split": row["split"],
         "says": _hesitation(row)}
        for _, row in sorted(found, key=lambda pair: (pair[0], pair[1]["path"]))
    ]  # fmt: skip
    if photos:
        what = (
            f"Look at {counted(len(photos), 'test photo')} between two classes: {_names(photos)}. Among new photos, set such ones aside "
            "for a person:"
        )
        command = f"finetunekit predict {shlex.quote(str(run))} NEW_PHOTOS/ --abstain-below 0.8 --sort-into sorted"
        yield Step("boundary", what, command, tuple(photos))
