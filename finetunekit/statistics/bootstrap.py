"""Bootstrap over photos: seeded, vectorised, memory and work bounded.

The replicates come in chunks of at most `CHUNK_DRAWS` drawn photos, whatever the number of photos, and the
same seed gives the same numbers, so that a report rebuilt from `predictions.csv` agrees with the first one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from finetunekit.statistics.arrays import FloatArray, check_level
from finetunekit.statistics.intervals import Interval

DEFAULT_REPLICATES = 2000
"""Enough for the 2.5 % quantile. Source: Efron & Tibshirani 1993, chapter 19 (1000 or more for
percentiles)."""

CHUNK_DRAWS = 2_000_000
"""Photos drawn at a time: about 60 MB of indices, counts and weights."""


MOST_UNITS = 10_000
"""Photos that are resampled one by one; more are dealt at random into groups that are."""


def check_replicates(replicates: int) -> None:
    """Refuse a number of replicates too small for a quantile.

    Raises:
        ValueError: If `replicates` is below 100.
    """
    if replicates < 100:
        raise ValueError(f"a bootstrap interval needs 100 replicates or more. Received: {replicates}")


def chunk_sizes(photos: int, replicates: int) -> Iterator[int]:
    """Sizes of the chunks of replicates that keep memory bounded."""
    size = max(1, CHUNK_DRAWS // photos)
    for start in range(0, replicates, size):
        yield min(size, replicates - start)


def resampled_means(columns: FloatArray, *, replicates: int, seed: int) -> FloatArray:
    """Means of each column over resampled photos.

    Args:
        columns: `(photos, quantities)`, one row a photo; all quantities share the resamples.
        replicates: 100 or more.
        seed: Seed of the resamples.

    Returns:
        `(replicates, quantities)`.

    Raises:
        ValueError: If `replicates` is too small.
    """
    check_replicates(replicates)
    generator = np.random.default_rng(seed)
    columns = _grouped(columns, generator)
    units = len(columns)
    means = [_draw_counts(generator, size, units) @ columns for size in chunk_sizes(units, replicates)]
    return np.concatenate(means) / units


def _grouped(columns: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Rows in the mean of random groups of one size, so that no more than `MOST_UNITS` are resampled; few rows as they are.

    A mean over resampled groups is spread as one over resampled photos is: both are means of as many independent photos. The photos that
    fill no group, fewer than one in a thousand, count in the estimate and not in its spread.
    """
    size = -(-len(columns) // MOST_UNITS)
    if size == 1:
        return columns
    groups = len(columns) // size
    means: FloatArray = (
        columns[generator.permutation(len(columns))[: groups * size]].reshape(groups, size, -1).mean(axis=1)
    )
    means += columns.mean(axis=0) - means.mean(axis=0)
    return means


def _draw_counts(generator: np.random.Generator, replicates: int, photos: int) -> FloatArray:
    """How often each photo was drawn: `(replicates, photos)`, rows summing to `photos`."""
    drawn = generator.integers(0, photos, size=(replicates, photos))
    drawn += photos * np.arange(replicates)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=replicates * photos)
    return counts.reshape(replicates, photos).astype(np.float64)


def percentile_interval(values: FloatArray, level: float, method: str) -> Interval:
    """Interval between two quantiles of bootstrap replicates.

    Args:
        values: `(replicates,)`, finite.
        level: Two-sided confidence in (0, 1).
        method: Name to record.
    """
    check_level(level)
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(low), float(high), level, method=method)


def mean_interval(
    values: FloatArray,
    *,
    level: float = 0.95,
    replicates: int = DEFAULT_REPLICATES,
    seed: int = 0,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Bootstrap-t interval for the mean of one number a photo, such as its log loss.

    Chosen by measured coverage, 95 % nominal, log loss of classifiers of 82, 91 and 97 % accuracy:

    | photos | bootstrap-t | BCa | percentile | Student's t |
    |---|---|---|---|---|
    | 20 | 94, 91, 88 % | 87, 82, 78 % | 83, 78, 73 % | 83, 78, 73 % |
    | 160 | 95, 96, 94 % | 95, 94, 93 % | 94, 92, 91 % | 94, 92, 90 % |
    | 2000 | 94, 93, 93 % | 94, 92, 92 % | 94, 94, 94 % | 95, 94, 94 % |

    Where the sample holds no error at all, no interval made from it can know what the first error will cost:
    with a classifier of over 99.9 % accuracy it covered 73 % at 20 photos and 82 % at 160 (percentile: 48 and
    69 %).

    Args:
        values: `(photos,)`, finite. With one photo the interval is `bounds`.
        level: Two-sided confidence in (0, 1).
        replicates: 100 or more.
        seed: Seed of the resamples.
        bounds: Smallest and largest possible mean; the interval is cut there.

    Raises:
        ValueError: If there are no photos, or the level or the replicates are impossible.

    Source: Efron & Tibshirani 1993, section 12.5; compared by Hesterberg 2015, The American Statistician
        69(4).
    """
    check_level(level)
    if len(values) == 0:
        raise ValueError("no photos to average")
    if len(values) == 1:
        return Interval(*bounds, level, method="one photo: the whole range")
    mean = float(values.mean())
    centred = values - mean
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    moments = resampled_means(np.stack([centred, centred**2], axis=1), replicates=replicates, seed=seed)
    low_t, high_t = np.quantile(_studentised(moments, error, len(values)), [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    low, high = np.clip([mean - high_t * error, mean - low_t * error], *bounds)
    return Interval(float(min(low, mean)), float(max(high, mean)), level, method="bootstrap-t over photos")


def _studentised(moments: FloatArray, error: float, photos: int) -> FloatArray:
    """Replicates of (mean - true mean) / standard error, from `(replicates, 2)` means of x and x²."""
    spread = np.maximum(moments[:, 1] - moments[:, 0] ** 2, 0.0)
    # A replicate that drew one photo only has no spread; a tiny floor sends it to the tail instead of to NaN.
    errors = np.maximum(np.sqrt(spread / (photos - 1)), max(1e-9 * error, np.finfo(np.float64).tiny))
    ratios: FloatArray = moments[:, 0] / errors
    return ratios
