"""Was a published accuracy reproduced?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finetunekit.statistics.arrays import check_margin
from finetunekit.statistics.intervals import Interval, check_count, newcombe_interval, wilson_interval

DEFAULT_MARGIN = 0.05
"""Five points of accuracy: about the sampling error that a figure from 160 photos carries itself."""

MAX_PHOTOS = 10_000_000
"""Above so many photos "how many would be needed" is answered with None."""

Outcome = Literal["reproduced", "not reproduced", "too few photos"]
Direction = Literal["equal", "at_least"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A published accuracy.

    Attributes:
        value: In [0, 1].
        photos: Photos it was measured on; None if the source does not say, and then its own sampling error is
            unknown.
    """

    value: float
    photos: int | None = None


@dataclass(frozen=True, slots=True)
class ClaimCheck:
    """What one run says about a published accuracy.

    Attributes:
        outcome: `reproduced`, `not reproduced` or `too few photos`.
        claim: What was published.
        observed_correct: Photos this run has right.
        observed_photos: Photos this run was scored on.
        difference: Observed minus published, as a fraction.
        interval: For the difference, 95 %: the test of a difference.
        margin_interval: For the difference, 90 %: the two one-sided tests against the margin, 5 % each.
        margin: Largest difference that still counts as reproduced, as a fraction.
        direction: `equal`, or `at_least` where a better result also reproduces the claim.
        smallest_margin: The margin above which this run's outcome would be `reproduced`.
        photos_needed: Photos of our own at which a run that scores exactly the published figure would be
            `reproduced`; None if no number suffices, because the published figure's own sampling error is
            wider than the margin.
        is_published_error_known: Whether the claim's own sampling error is part of the intervals.
        test: The test used, for the report.
    """

    outcome: Outcome
    claim: Claim
    observed_correct: int
    observed_photos: int
    difference: float
    interval: Interval
    margin_interval: Interval
    margin: float
    direction: Direction
    smallest_margin: float
    photos_needed: int | None
    is_published_error_known: bool
    test: str


def check_claim(
    claim: Claim,
    correct: int,
    photos: int,
    *,
    margin: float = DEFAULT_MARGIN,
    direction: Direction = "equal",
) -> ClaimCheck:
    """Test one published accuracy against one run.

    A published figure is itself one draw: 147 of 160 is anything from 86.6 to 95.2 %. So where its number of
    photos is known, both sides' errors count (Newcombe's interval of a difference of two proportions). Where
    it is not, only ours does, the interval is too narrow by an unknown amount, and `is_published_error_known`
    is False.

    The outcome, in this order:

    1. `reproduced`: the 90 % interval lies inside plus or minus the margin (with `at_least`: above minus the
       margin). It is wrong at most about 1 time in 20 where the true difference is the margin.
    2. `not reproduced`: the 95 % interval excludes 0 (with `at_least`: lies below 0). A run that is better
       than published has not reproduced the figure either: something else is at work. It is wrong about 1
       time in 20 where there is none.
    3. `too few photos`: neither. No difference was shown, and neither was its absence.

    With very many photos a difference can be both real and within the margin; it is then `reproduced`, and
    `interval` says so.

    160 photos against 160 at 92 %: the 95 % interval is about plus or minus 6 points, the 90 % one plus or
    minus 5. So with the default margin of 5 points no run on 160 photos is `reproduced` (147 of 160 itself
    misses by 0.2 points), 146 of 160 is `too few photos` with a smallest margin of 5.9 points, and 135 or
    fewer, or 156 or more, are `not reproduced`. A run on 215 photos that scores 91.9 % would settle it (175,
    or 148 of 160, with `at_least`). No number of photos would settle a margin below 4.3 points (`at_least`:
    2.9): the published figure's own 160 photos do not know it so well. A margin of 6 points would make 146 to
    148 of 160 `reproduced`, one of 7.5 points 144 to 151: state it in the preset, before the run. The two
    runs are treated as independent. On the very same photos they usually err together, and the interval is
    then too wide; a single published figure cannot be paired.

    Args:
        claim: The published accuracy.
        correct: Distinct photos this run has right.
        photos: Distinct photos this run was scored on.
        margin: As a fraction, in (0, 1), stated with the claim and not after the run.
        direction: `equal` or `at_least`.

    Raises:
        ValueError: If a number is impossible.

    Source: Newcombe 1998, Statistics in Medicine 17, 873-890, method 10; Wilson 1927; Schuirmann 1987 (two
        one-sided tests); order of the outcomes after Tryon & Lewis 2008, Psychological Methods 13(3)
        (difference, equivalence, indeterminacy).
    """
    _check_claim(claim, margin, direction)
    check_count(correct, photos)
    interval, margin_interval = (_difference(claim, correct, photos, level) for level in (0.95, 0.90))
    return ClaimCheck(
        outcome=_outcome(interval, margin_interval, margin, direction),
        claim=claim,
        observed_correct=correct,
        observed_photos=photos,
        difference=correct / photos - claim.value,
        interval=interval,
        margin_interval=margin_interval,
        margin=margin,
        direction=direction,
        smallest_margin=_smallest_margin(margin_interval, direction),
        photos_needed=_photos_needed(claim, margin, direction),
        is_published_error_known=claim.photos is not None,
        test=f"{interval.method}: 95 % against 0, 90 % against a margin of {100 * margin:g} points",
    )


def _check_claim(claim: Claim, margin: float, direction: Direction) -> None:
    check_margin(margin)
    if margin >= 1.0:
        raise ValueError(f"margin is a fraction: 0.05 for 5 points. Received: {margin}")
    if direction not in ("equal", "at_least"):
        raise ValueError(f"direction must be 'equal' or 'at_least'. Received: {direction!r}")
    if not 0.0 <= claim.value <= 1.0:
        raise ValueError(f"a published accuracy must lie in [0, 1]. Received: {claim.value}")
    if claim.photos is not None and claim.photos < 1:
        raise ValueError(f"a published accuracy needs at least one photo. Received: {claim.photos}")


def _difference(claim: Claim, correct: float, photos: float, level: float) -> Interval:
    if claim.photos is not None:
        return newcombe_interval(correct, photos, claim.value * claim.photos, claim.photos, level)
    own = wilson_interval(correct, photos, level)
    return Interval(own.low - claim.value, own.high - claim.value, level, method="wilson against a fixed value")


def _outcome(interval: Interval, margin_interval: Interval, margin: float, direction: Direction) -> Outcome:
    if _smallest_margin(margin_interval, direction) < margin:
        return "reproduced"
    is_better = interval.low > 0.0 and direction == "equal"
    return "not reproduced" if interval.high < 0.0 or is_better else "too few photos"


def _smallest_margin(margin_interval: Interval, direction: Direction) -> float:
    worse = max(0.0, -margin_interval.low)
    return worse if direction == "at_least" else max(worse, margin_interval.high)


def _photos_needed(claim: Claim, margin: float, direction: Direction) -> int | None:
    """Bisect for the fewest photos at which the published rate itself, observed, is within the margin."""

    def is_enough(photos: int) -> bool:
        expected = _difference(claim, claim.value * photos, photos, 0.90)
        return _smallest_margin(expected, direction) < margin

    if not is_enough(MAX_PHOTOS):
        return None
    short, enough = 0, MAX_PHOTOS
    while enough - short > 1:
        middle = (short + enough) // 2
        short, enough = (short, middle) if is_enough(middle) else (middle, enough)
    return enough
