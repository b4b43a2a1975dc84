"""Intervals and paired tests for scores over seeds or images. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = [
    "Interval",
    "PairedTest",
    "holm_correction",
    "mcnemar_test",
    "mean_interval",
    "paired_bootstrap",
    "paired_t_test",
    "proportion_interval",
    "t_quantile",
    "wilcoxon_test",
]

LEVEL = 0.95
NUM_RESAMPLES = 9999
MOST_DRAWN = 4_000_000
"""Maximum number of values that are drawn at once, which bounds the memory of a bootstrap."""
ALL_EQUAL = "all differences are equal, so their spread is unknown"


class Interval(NamedTuple):
    """Confidence interval."""

    low: float
    high: float


class PairedTest(NamedTuple):
    """Two-sided test of paired values."""

    p_value: float | None
    """None if the values do not allow a test."""
    note: str = ""
    """Reason why there is no p-value, or why none of these values could be significant."""


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return Student's interval of a mean, mean ± t s / sqrt(n); None for fewer than two values."""
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        return None
    half = t_quantile(data.size - 1, level) * data.std(ddof=1) / math.sqrt(data.size)
    return Interval(float(data.mean() - half), float(data.mean() + half))


def t_quantile(freedom: int, level: float = LEVEL) -> float:
    """Return the factor of the standard error in a two-sided interval, a quantile of Student's t."""
    return float(stats.t.ppf((1 + level) / 2, freedom))


def proportion_interval(successes: int, number: int, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of a proportion, such as an accuracy over independent images."""
    found = stats.binomtest(successes, number).proportion_ci(level, "wilson")
    return Interval(float(found.low), float(found.high))


def paired_t_test(first: Sequence[float], second: Sequence[float]) -> PairedTest:
    """Test with Student's t that the mean difference of paired values is zero.

    Raises:
        ValueError: The two do not have the same number of values.
    """
    differences = _differences(first, second)
    if differences.size < 2:
        return PairedTest(None, "a paired test needs two pairs or more")
    # Differences of equal numbers can vary by rounding.
    if np.ptp(differences) <= 1e-12 * max(1.0, float(np.abs(differences).max())):
        return PairedTest(1.0 if not differences.any() else None, ALL_EQUAL)
    return PairedTest(float(stats.ttest_1samp(differences, 0.0).pvalue))


def wilcoxon_test(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> PairedTest:
    """Test with Wilcoxon's signed ranks that paired differences are symmetric about zero.

    The smallest p-value of n pairs is 2 / 2^n; a note says so if it is above 1 - level.

    Raises:
        ValueError: The two do not have the same number of values.
    """
    differences = _differences(first, second)
    if differences.size < 1:
        return PairedTest(None, "a paired test needs one pair or more")
    if not differences.any():
        return PairedTest(1.0, "all differences are zero")
    smallest = 2.0 ** (1 - differences.size)
    note = ""
    if smallest > 1 - level:
        note = f"with {differences.size} pairs the smallest possible p-value is {smallest:.3g}"
    return PairedTest(float(stats.wilcoxon(differences).pvalue), note)


def mcnemar_test(first: ArrayLike, second: ArrayLike) -> PairedTest:
    """Test exactly that two classifiers are equally often right on the same images (McNemar).

    Args:
        first: True for each image that the first classifier predicts correctly, (N,).
        second: The same of the second classifier, in the same order.

    Raises:
        ValueError: The two do not have the same number of values.
    """
    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    _check_pairs(one, other)
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    if not only_one + only_other:
        return PairedTest(1.0, "both are right on the same images")
    smaller = min(only_one, only_other)
    return PairedTest(float(stats.binomtest(smaller, only_one + only_other, 0.5).pvalue))


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float] | None = None,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Return the bootstrap interval of `statistic(first) - statistic(second)` over resampled pairs.

    The interval is bias-corrected and accelerated (Efron 1987), or that of the percentiles where the
    correction is not defined. Scores that are no means over images, such as the IoU of a whole data set,
    need the counts of each image as rows and a statistic of the resampled rows.

    Args:
        first: Values of the images, (N,), or rows of counts, (N, k).
        second: The same of the other model, in the same order.
        statistic: Function of resampled values or rows; None: the mean, which is faster.
        level: Confidence level.
        num_resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        The interval; None for fewer than two pairs.

    Raises:
        ValueError: The two do not have the same shape.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    _check_pairs(one, other)
    number = len(one)
    if number < 2:
        return None
    data: NDArray[Any] = one - other
    compute: Callable[..., Any] = np.mean
    if statistic is not None:
        data, compute = np.arange(number), lambda rows: statistic(one[rows]) - statistic(other[rows])
    elif not np.ptp(data):
        return Interval(float(data[0]), float(data[0]))
    for method in ("BCa", "percentile"):
        with np.errstate(all="ignore"):
            found = stats.bootstrap(
                (data,),
                compute,
                vectorized=statistic is None,
                method=method,
                confidence_level=level,
                n_resamples=num_resamples,
                batch=max(1, MOST_DRAWN // number),
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if math.isfinite(found.low) and math.isfinite(found.high):
            break
    return Interval(float(found.low), float(found.high))


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's method, in the given order.

    The i-th smallest of m becomes the largest of min(1, (m - j + 1) p_(j)) for j <= i (Holm 1979). Tests
    that are not defined do not belong to the family and must be left out.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = len(values) - np.arange(len(values))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return [float(value) for value in adjusted]


def _differences(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float64]:
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    _check_pairs(one, other)
    return one - other


def _check_pairs(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if first.shape != second.shape:
        raise ValueError(f"paired values must have one shape, got {first.shape} and {second.shape}")
