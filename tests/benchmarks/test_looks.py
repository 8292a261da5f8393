"""How the bench of looks chooses one of them, on losses made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from bench_looks import CONTESTANTS, Choice, Looks, parts_of
from bench_looks import RULES as RULE_OF
from numpy.typing import NDArray

LOW, HIGH = np.array([0.1, 0.3] * 50), np.array([1.1, 1.3] * 50)
#: A little lower than LOW on most photos, and far higher on a few.
UNSURE = LOW + np.where(np.arange(100) % 20 == 0, 2.0, -0.11)


@pytest.mark.parametrize(
    ("rule", "losses", "chosen"),
    [
        ("least", [HIGH, LOW], 1),
        ("least", [LOW + 0.01, UNSURE], 1),
        ("within one error", [HIGH, LOW], 1),
        ("within one error", [LOW + 0.01, UNSURE], 0),
        ("95 %", [HIGH, UNSURE], 1),
        ("95 %", [LOW, HIGH], 0),
    ],
)
def test_a_look_is_chosen_where_the_rule_is_sure_enough(
    rule: str, losses: list[NDArray[np.float64]], chosen: int
) -> None:
    assert RULE_OF[rule](losses) == chosen


def test_parts_are_those_of_all_that_is_chosen_among() -> None:
    assert parts_of(["Lite0, least", "both and their 1000 answers"])[:2] == ["lite0", "lite0-whole"]
    among = [other for found in CONTESTANTS.values() if isinstance(found, Choice) for other in found.among]
    assert all(isinstance(CONTESTANTS[name], Looks) for name in among)
