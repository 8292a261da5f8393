"""The display photos, how often the test split was looked at, the machine, the licences, and how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from finetunekit.reports.html import Child, Html, PageSection, definitions, h, join

from .album import Album, choose, grid
from .words import count, percent, seconds

if TYPE_CHECKING:
    from finetunekit import FinishedRun


def display_section(run: FinishedRun, album: Album, most: int) -> PageSection | None:
    """Display photos drawn by the run's seed; None where there are none."""
    rows = [row for row in run.predictions if row["split"] == "display"]
    if not rows or not most:
        return None
    truths = {row["sha256"]: row["true"] for row in run.predictions if row["split"] == "test" and row["true"]}
    seed = int(run.config.get("seed", 0))
    chosen = choose(rows, most, seed)
    words = f"{len(chosen)} of {count(len(rows), 'display photo')}, drawn with seed {seed}, with the predicted class and its probability."
    figures = [_tile(row, truths.get(row["sha256"]) or row["true"], album) for row in chosen]
    return PageSection("display", "Display photos", join([h("p", words), grid(figures)]))


def _tile(row: Mapping[str, str], truth: str | None, album: Album) -> Html:
    given = row["predicted"]
    is_right = truth == given
    mark, kind = ("✓ ", "tick") if is_right else ("✕ ", "cross")
    said = "right" if is_right else "wrong"
    caption: list[Child] = [
        h("span", mark, at={"class": kind, "role": "img", "aria-label": said}) if truth else None,
        h("strong", given),
        f" {percent(float(row[f'p_{given}']))}",
        [h("br"), f"true: {truth}"] if truth and not is_right else None,
    ]
    return album.figure(row, caption, kind=said if truth else "")


def openings_section(run: FinishedRun) -> PageSection:
    """How often the test split had been looked at when this run was scored."""
    openings = run.metrics.get("openings")
    if not openings:
        words = "How often this test split was opened could not be recorded."
        return PageSection("openings", "Openings of the test split", h("p", words))
    times = "once" if openings["openings"] == 1 else f"{openings['openings']:,} times"
    text = f"When this run was scored, its test split had been opened {times} by {count(openings['configs'], 'configuration')}."
    more = (
        " Of many runs on the same test photos the best is partly lucky: its interval is wider than the one above "
        "(finetunekit report says how wide by now)."
        if openings["openings"] > 1
        else " The intervals above stand as they are."
    )
    return PageSection("openings", "Openings of the test split", h("p", text + more))


def environment_section(run: FinishedRun) -> PageSection:
    """Machine, versions, times."""
    environment = run.optional("environment.json")
    pairs: list[tuple[Child, Child]] = []
    if environment:
        cpus = count(int(environment["cpus"]), "processor") if environment.get("cpus") else ""
        pairs.append(("machine", ", ".join(filter(None, [str(environment.get("processor", "")), cpus]))))
        pairs.append(("system", str(environment.get("platform", "–"))))
        versions = {"python": environment.get("python"), **(environment.get("versions") or {})}
        pairs.append(("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)))
    times = run.metrics.get("seconds") or {}
    # Not the time of the reports themselves, which is known only after them: a page made again is the same page.
    shown = {name.removesuffix("_s"): float(value) for name, value in times.items() if name != "report_s"}
    pairs += [(f"time, {name}", seconds(value)) for name, value in shown.items()]
    body = definitions(pairs) if pairs else h("p", "The run recorded no environment.")
    return PageSection("environment", "Environment", body)


def licences_section(run: FinishedRun) -> PageSection:
    """Whose work this rests on."""
    weights = run.optional("weights.json") or {}
    pairs: list[tuple[Child, Child]] = [
        (name, str(weights[key]))
        for key, name in (
            ("licence", "weights' licence"),
            ("attribution", "attribution"),
            ("note", "where they came from"),
        )
        if weights.get(key)
    ]
    pairs.append(
        (
            "photos",
            run.stand_in
            or "yours; this page holds small copies of some of them. Mind their licences before sharing it.",
        )
    )
    return PageSection("licences", "Licences and attribution", definitions(pairs))


def commands_section(run: FinishedRun) -> PageSection:
    """What to type to have it again."""
    name = shlex.quote(run.path.name)
    lines = [
        ("the run", _run_command(run)),
        ("this page", f"finetunekit report {name}"),
        ("each photo that changed sides", f"finetunekit compare {name} OTHER_RUN --html comparison.html"),
        ("other seeds", f"{_run_command(run)} --seeds 5"),
        ("photos of your own", f"finetunekit predict {name} PHOTO ..."),
    ]
    return PageSection("commands", "To repeat it", definitions((name, h("code", line)) for name, line in lines))


def _run_command(run: FinishedRun) -> str:
    return shlex.join(["finetunekit", "run", *_arguments(run)])


def _arguments(run: FinishedRun) -> Iterator[Any]:
    yield str(run.plan.get("source", run.config.get("name")))
    for setting in run.state.get("settings") or ():
        yield from ("--set", setting)
