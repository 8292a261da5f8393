from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from finetunekit.statistics import Claim, check_claim, newcombe_interval, wilson_interval

PUBLISHED = Claim(147 / 160, 160)


def test_the_experiments_own_figure_on_160_photos() -> None:
    """146 of 160 against 147 of 160: nothing shown, neither a difference nor its absence within 5 points."""
    found = check_claim(PUBLISHED, 146, 160)
    assert found.outcome == "too few photos"
    assert found.interval == newcombe_interval(146, 160, 147, 160)
    assert found.smallest_margin == pytest.approx(0.0589, abs=1e-4)
    assert check_claim(PUBLISHED, 147, 160).smallest_margin == pytest.approx(0.0517, abs=1e-4)
    assert check_claim(PUBLISHED, 146, 160, margin=0.06).outcome == "reproduced"


@pytest.mark.parametrize(
    ("correct", "outcome"),
    [(135, "not reproduced"), (136, "too few photos"), (155, "too few photos"), (156, "not reproduced")],
)
def test_boundaries_on_160_photos(correct: int, outcome: str) -> None:
    assert check_claim(PUBLISHED, correct, 160).outcome == outcome


def test_at_least_counts_better_as_reproduced() -> None:
    assert check_claim(PUBLISHED, 160, 160, direction="at_least").outcome == "reproduced"
    assert check_claim(PUBLISHED, 148, 160, direction="at_least").outcome == "reproduced"
    assert check_claim(PUBLISHED, 147, 160, direction="at_least").outcome == "too few photos"
    assert check_claim(PUBLISHED, 135, 160, direction="at_least").outcome == "not reproduced"


def test_photos_needed_are_enough_and_fewest() -> None:
    needed = check_claim(PUBLISHED, 146, 160).photos_needed
    assert needed == 215
    # 0.91875 is 294/320, a whole number of photos: enough there, and not at 160.
    assert check_claim(PUBLISHED, 294, 320).outcome == "reproduced"


def test_own_sampling_error_of_the_claim_sets_a_floor() -> None:
    endless = check_claim(PUBLISHED, 9_187_500, 10_000_000, margin=0.04)
    published = wilson_interval(147, 160, 0.90)
    assert endless.smallest_margin == pytest.approx(147 / 160 - published.low, abs=2e-4)
    assert endless.outcome == "too few photos"
    assert endless.photos_needed is None


def test_many_photos_settle_it() -> None:
    large = Claim(0.92, 50_000)
    assert check_claim(large, 45_500, 50_000).outcome == "reproduced"
    assert not check_claim(large, 45_500, 50_000).interval.contains(0.0)
    assert check_claim(large, 42_000, 50_000).outcome == "not reproduced"


def test_claim_without_a_count_is_taken_as_exact_and_says_so() -> None:
    found = check_claim(Claim(0.91875), 146, 160)
    own = wilson_interval(146, 160)
    assert (found.interval.low, found.interval.high) == pytest.approx((own.low - 0.91875, own.high - 0.91875))
    assert not found.is_published_error_known
    assert check_claim(PUBLISHED, 146, 160).is_published_error_known


def test_json_and_test_name() -> None:
    found = check_claim(PUBLISHED, 146, 160)
    assert found.test == "newcombe hybrid score: 95 % against 0, 90 % against a margin of 5 points"
    assert json.loads(json.dumps(asdict(found), allow_nan=False))["outcome"] == "too few photos"


@pytest.mark.parametrize(
    ("claim", "correct", "margin", "message"),
    [
        (Claim(91.9, 160), 146, 0.05, r"must lie in \[0, 1\]. Received: 91.9"),
        (Claim(0.9, 0), 146, 0.05, "at least one photo"),
        (PUBLISHED, 161, 0.05, r"successes must lie in \[0, 160\]"),
        (PUBLISHED, 146, 5.0, r"margin is a fraction: 0\.05 for 5 points"),
    ],
)
def test_impossible_claims_are_refused(claim: Claim, correct: int, margin: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_claim(claim, correct, 160, margin=margin)
