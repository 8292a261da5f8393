"""Was the published result that a preset reproduces reproduced by this run?"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from finetunekit.config.sections import Expected
from finetunekit.errors import ConfigError, FinetuneKitError, RunFolderError
from finetunekit.runs.folder import PLAN, FinishedRun
from finetunekit.runs.test_predictions import read_test_predictions
from finetunekit.statistics import Claim, ClaimCheck, Interval, check_claim, wilson_interval
from finetunekit.system.formatting import show_percent, show_points, show_points_range, show_range
from finetunekit.system.terminal import table, wrap

__all__ = [
    "EXIT_CODES",
    "Verdict",
    "outcome_sentence",
    "published_sentence",
    "verdict_lines",
    "verify_run",
]

EXIT_CODES = {"reproduced": 0, "not reproduced": 5, "too few photos": 6}
"""Exit code of `verify` for each outcome; 1 to 4 are errors, 2 among them: nothing to verify, or a stand-in."""

NO_CHANGE = ("data.root=", "seed=", "reports=", "save.", "track")
"""Settings that leave the recipe as the preset states it."""

ROUNDING = 0.0051
"""How far a published value may lie from its own count: a figure given in whole per cent, and the float beyond it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one run says about the published result of its preset.

    Attributes:
        path: Run folder.
        name: Of its configuration.
        source: Where the result was published.
        check: The test, both figures, and what it would take.
        published_interval: 95 % Wilson interval of the published accuracy; None where its photos are unknown.
        observed_interval: The same of this run's.
        copies: Test photos of this run left out as copies of others.
        changes: What `--set` changed from the preset that states the claim, the place of the photos aside.
        exit_code: Of the command line.
    """

    path: Path
    name: str
    source: str
    check: ClaimCheck
    published_interval: Interval | None
    observed_interval: Interval
    copies: int
    changes: tuple[str, ...]
    exit_code: int


def verify_run(path: Path) -> Verdict:
    """Test a finished run against `expected` in its own configuration, with the margin and direction stated before
    the run.

    Args:
        path: Run folder.

    Raises:
        ConfigError: If the run's photos are a stand-in, if it has nothing in `expected`, or if that contradicts
            itself.
        RunFolderError: If the run is not finished, or its files are missing or damaged.

    Source: `finetunekit.statistics.check_claim`.
    """
    predictions = read_test_predictions(path)
    run = predictions.run
    if run.stand_in:
        raise ConfigError(
            f"{path}: ran on a stand-in, which says nothing about the published result. Run the preset on its photos"
            " (--set data.root=FOLDER)."
        )
    expected = _expected(run)
    claim = _claim(expected, run.path)
    correct, photos = predictions.count_correct(), len(predictions.by_content)
    check = check_claim(claim, correct, photos, margin=expected.margin_points / 100.0, direction=expected.direction)
    return Verdict(
        path=path,
        name=str(run.config["name"]),
        source=expected.source,
        check=check,
        published_interval=wilson_interval(claim.value * claim.photos, claim.photos) if claim.photos else None,
        observed_interval=wilson_interval(correct, photos),
        copies=predictions.copies,
        changes=tuple(s for s in run.state.get("settings", ()) if not s.startswith(NO_CHANGE)),
        exit_code=EXIT_CODES[check.outcome],
    )


def verdict_lines(verdict: Verdict) -> list[str]:
    """The verdict in words, the outcome first; lines of at most 80 columns."""
    check = verdict.check
    text = [_tested(check)]
    if check.smallest_margin >= check.margin:
        passed = math.ceil(1e4 * check.smallest_margin) / 1e4
        text.append(f"Only a margin above {show_points(passed)} would pass; it has to be stated before the run.")
    text.append(_photos_needed(check))
    if not check.is_published_error_known:
        text.append("How many photos the published figure rests on is not known, so its own error is left out.")
    if verdict.copies:
        text.append(f"{verdict.copies} test photos are copies of others and were left out.")
    if verdict.changes:
        text.append(f"This run is not quite the preset: {', '.join(verdict.changes)}.")
    text.append(f"Published: {' '.join(verdict.source.split())}")
    return [*wrap(outcome_sentence(check)), "", *_figures(verdict), "", *(line for part in text for line in wrap(part))]


def _expected(run: FinishedRun) -> Expected:
    value: Any = run.config.get("expected")
    if value is None:
        raise ConfigError(
            f"{run.path}: its preset states no published result. Add 'expected:' (value, photos, source) and run again."
        )
    try:
        return Expected.model_validate_json(json.dumps(value))
    except pydantic.ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        where = ".".join(["expected", *map(str, error["loc"])])
        raise RunFolderError(f"{run.path / PLAN}: {where}: {error['msg']}.") from exc


def _claim(expected: Expected, path: Path) -> Claim:
    """The exact count where it is given, else the rounded value."""
    correct, photos = expected.correct, expected.photos
    if correct is None or photos is None:
        return Claim(expected.value, photos)
    if correct > photos or abs(correct / photos - expected.value) > ROUNDING:
        raise ConfigError(
            f"{path}: expected.value {expected.value:g} is not {correct} of {photos}. Correct the preset and run again."
        )
    return Claim(correct / photos, photos)


def outcome_sentence(check: ClaimCheck) -> str:
    """The outcome in one sentence."""
    margin = show_points(check.margin)
    if check.outcome == "reproduced":
        how = "at least as accurate as" if check.direction == "at_least" else "as accurate as"
        return f"REPRODUCED: this run is {how} published, to within {margin}."
    if check.outcome == "not reproduced":
        way = "less" if check.difference < 0 else "more"
        return f"NOT REPRODUCED: this run is {way} accurate than published, by more than chance explains."
    shown = f"{check.observed_photos:,} photos show neither a difference nor that it is below {margin}"
    return f"TOO FEW PHOTOS TO SAY: {shown}."


def published_sentence(run: FinishedRun) -> str | None:
    """How a run stands to the published result of its preset; None where there is none."""
    if not run.config.get("expected"):
        return None
    if run.stand_in:
        return "The published result of this preset is about its own photos; a run on a stand-in says nothing about it."
    try:
        check = verify_run(run.path).check
    except FinetuneKitError as exc:
        return f"The published result could not be tested: {exc}"
    of_photos = f" of {check.claim.photos:,} photos" if check.claim.photos else ""
    return f"Published: {show_percent(check.claim.value)}{of_photos}. {outcome_sentence(check)}"


def _figures(verdict: Verdict) -> list[str]:
    check, published = verdict.check, verdict.published_interval
    value, photos = check.claim.value, check.claim.photos
    counted = "" if photos is None else f"{value * photos:,.0f} of {photos:,}"
    own = f"{check.observed_correct:,} of {check.observed_photos:,}"
    between = "photos not known" if published is None else f"(95 % interval {show_range(published)} %)"
    observed = 100 * check.observed_correct / check.observed_photos
    observed_between = f"(95 % interval {show_range(verdict.observed_interval)} %)"
    difference_between = f"(95 % interval {show_points_range(check.interval)} points)"
    rows = (
        ("published", counted, f"{100 * value:.1f}", "%", between),
        ("this run", own, f"{observed:.1f}", "%", observed_between),
        ("difference", "", f"{100 * check.difference:+.1f}", "", difference_between),
    )
    return table(rows, right=(1, 2))


def _tested(check: ClaimCheck) -> str:
    side = "worse" if check.direction == "at_least" else "worse or better"
    return (
        f"Tested: is this run at most {show_points(check.margin)} {side} than published? 90 % interval of the difference:"
        f" {show_points_range(check.margin_interval)} points ({check.interval.method.capitalize()}). The margin was stated with the preset."
    )


def _photos_needed(check: ClaimCheck) -> str:
    if check.photos_needed is None:
        return (
            f"No number of photos would settle a margin of {show_points(check.margin)}: the published figure's own"
            " photos are too few."
        )
    rate = show_percent(check.claim.value)
    return f"{check.photos_needed:,} test photos would settle it for a run that gets exactly {rate} right."
