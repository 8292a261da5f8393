"""Several tests at once."""

from __future__ import annotations

from collections.abc import Sequence

from finetunekit.statistics import Interval, wilson_interval


def bonferroni(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values adjusted so that the chance of any false alarm among them is bounded.

    One of them is below `1 - level` exactly where the interval of its comparison at `simultaneous_level` excludes 0; Holm's, which are
    smaller, have no such intervals.

    Source: Dunn 1961, JASA 56(293), 52-64.
    """
    return tuple(min(1.0, len(p_values) * p) for p in p_values)


def simultaneous_level(comparisons: int, level: float = 0.95) -> float:
    """The level at which each of several intervals is made, so that all of them hold together at `level`.

    Raises:
        ValueError: If there is no comparison.

    Source: Dunn 1961, JASA 56(293), 52-64.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons must be 1 or more. Received: {comparisons}")
    return 1.0 - (1.0 - level) / comparisons


def best_of_interval(correct: int, photos: int, openings: int) -> Interval:
    """Interval for the true accuracy of whichever run came out best.

    The best of m scores on the same photos is lucky as well as good, so its own 95 % interval covers less than 95 %.
    Wilson's interval at level 1 - 0.05 / m holds for all m at once (Bonferroni), hence for the best, however much the m
    runs err alike. m counts openings, not configurations: a lucky seed is luck too. It is a lower bound on what is
    needed where a configuration was chosen after a look at earlier test scores: then m should count every configuration
    that other scores would have led to.

    Args:
        correct: Photos the best run has right.
        photos: Photos scored.
        openings: m, at least 1.

    Raises:
        ValueError: If a number is impossible.

    Source: Dunn 1961, JASA 56(293), 52-64 (Bonferroni intervals); Wilson 1927; on adaptive choice Dwork et al. 2015,
        Science 349(6248), 636-638.
    """
    if openings < 1:
        raise ValueError(f"openings must be 1 or more. Received: {openings}")
    return wilson_interval(correct, photos, 1.0 - 0.05 / openings)
