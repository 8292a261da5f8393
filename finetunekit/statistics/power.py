"""How many photos it would take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from finetunekit.statistics.arrays import check_level, check_margin
from finetunekit.statistics.intervals import check_changes, normal_quantile, wilson_interval


@dataclass(frozen=True, slots=True)
class SampleSize:
    """About how many photos two runs need before a difference in accuracy shows.

    Attributes:
        difference: Difference in accuracy to be told apart, as a fraction.
        power: Chance of telling it apart when it is real.
        alpha: Level of the two-sided test.
        discordance: Assumed fraction of photos that only one of the two runs has right.
        photos: Photos needed at that discordance, of the same kind as these.
        photos_low: Photos needed at the low end of the 95 % interval of the discordance.
        photos_high: Photos needed at its high end.
    """

    difference: float
    power: float
    alpha: float
    discordance: float
    photos: int
    photos_low: int
    photos_high: int


def mcnemar_photos(discordance: float, difference: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Photos that McNemar's test needs.

    Args:
        discordance: Fraction of photos that only one run has right. At least `difference`: raised to it where
            lower, as a difference of 1 point needs 1 photo in 100 that changed sides.
        difference: Difference in accuracy, in (0, 1).
        power: In (0, 1).
        alpha: Level of the two-sided test, in (0, 1).

    Raises:
        ValueError: If a number is impossible.

    Source: Connor 1987, Biometrics 43(1), 207-211; after Miettinen 1968, Biometrics 24(2).
    """
    check_margin(difference)
    check_level(power)
    if not max(discordance, difference) <= 1.0:
        raise ValueError(f"fractions of photos cannot exceed 1. Received: {discordance} and {difference}")
    changing = max(discordance, difference)
    deviates = normal_quantile(1.0 - alpha) * math.sqrt(changing)
    deviates += NormalDist().inv_cdf(power) * math.sqrt(changing - difference * difference)
    return math.ceil(deviates * deviates / (difference * difference))


def photos_to_tell_apart(
    gained: int, lost: int, photos: int, *, difference: float = 0.01, power: float = 0.8, alpha: float = 0.05
) -> SampleSize:
    """Photos needed to tell a difference in accuracy apart, judged by how often these two runs disagree.

    The discordance used is `(gained + lost + 0.5) / (photos + 1)`: half a photo more than was seen (the
    Jeffreys mean), so that two runs that never disagreed on 20 photos are not taken to disagree never.
    `photos_low` and `photos_high` say how much that guess matters.

    Args:
        gained: Photos that only the second run has right.
        lost: Photos that only the first run has right.
        photos: All photos both runs answered.
        difference: Difference in accuracy to tell apart, as a fraction: 0.01 is one point.
        power: Chance of telling it apart when it is real.
        alpha: Level of the two-sided test.

    Raises:
        ValueError: If a number is impossible.

    Source: `mcnemar_photos`.
    """
    check_changes(gained, lost, photos)
    discordance = (gained + lost + 0.5) / (photos + 1.0)
    ends = wilson_interval(gained + lost, photos)
    needed, low, high = (
        mcnemar_photos(share, difference, power=power, alpha=alpha) for share in (discordance, ends.low, ends.high)
    )
    return SampleSize(difference, power, alpha, max(discordance, difference), needed, low, high)
