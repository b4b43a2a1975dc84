"""Statistics of a comparison over seeds: intervals, paired tests, correction for several rows, verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "Contrast",
    "Interval",
    "Verdict",
    "adjust_holm",
    "bootstrap_interval",
    "compare",
    "mean_interval",
    "prediction_interval",
    "smallest_wilcoxon_p",
]

ALPHA = 0.05
LEVEL = 1 - ALPHA
Verdict = Literal["better", "worse", "not separated"]
RESAMPLES = 9999


@dataclass(frozen=True)
class Interval:
    """Estimate with the bounds of its 95 % interval; NaN where there are too few values for bounds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Contrast:
    """Difference between a row and the baseline over common seeds.

    Attributes:
        difference: Mean of the paired differences with its interval of Student's t.
        p: Two-sided p-value of the paired t-test, before any correction.
        p_wilcoxon: Two-sided p-value of Wilcoxon's signed-rank test.
        count: Number of common seeds.
    """

    difference: Interval
    p: float
    p_wilcoxon: float
    count: int

    def verdict(self, p_adjusted: float) -> Verdict:
        """Return the verdict by rule: separated if the corrected p-value is below 0.05."""
        if not p_adjusted < ALPHA:
            return "not separated"
        return "better" if self.difference.mean > 0 else "worse"


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean with its 95 % interval, mean ± t s / √n with t of n - 1 degrees of freedom."""
    return _interval(values, math.sqrt(1 / len(values)))


def prediction_interval(values: Sequence[float]) -> Interval:
    """Return the mean with the interval that a further value meets with 95 %, ± t s √(1 + 1/n)."""
    return _interval(values, math.sqrt(1 + 1 / len(values)))


def _interval(values: Sequence[float], factor: float) -> Interval:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * statistics.stdev(values) * factor
    return Interval(mean, mean - half, mean + half)


def compare(row: Mapping[int, float], baseline: Mapping[int, float]) -> Contrast | None:
    """Compare two rows over their common seeds; None if there are fewer than three.

    Equal differences have no spread: their p-value is 1 if they are zero, and unknown (NaN) otherwise,
    because a t-test would report a certainty that three equal numbers do not give.

    Args:
        row: Score of each seed.
        baseline: Scores of the baseline.
    """
    seeds = sorted(row.keys() & baseline.keys())
    if len(seeds) < 3:
        return None
    differences = [row[seed] - baseline[seed] for seed in seeds]
    interval = mean_interval(differences)
    if len(set(differences)) == 1:
        p = p_wilcoxon = 1.0 if differences[0] == 0 else math.nan
    else:
        p = float(stats.ttest_1samp(differences, 0.0).pvalue)
        p_wilcoxon = float(stats.wilcoxon(differences).pvalue)
    return Contrast(interval, p, p_wilcoxon, len(seeds))


def smallest_wilcoxon_p(count: int) -> float:
    """Return the smallest two-sided p-value that Wilcoxon's test can reach with so many seeds, 2 / 2^n."""
    return 2.0 ** (1 - count)


def adjust_holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's method, which bounds the risk of any false claim.

    The k-th smallest of m is multiplied by m - k + 1, and none is smaller than the one before. Unknown values
    (NaN) count in m and stay unknown.
    """
    order = sorted((value, index) for index, value in enumerate(p) if not math.isnan(value))
    adjusted, largest = [math.nan] * len(p), 0.0
    for rank, (value, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * value))
        adjusted[index] = largest
    return adjusted


def bootstrap_interval(row: Sequence[NDArray[np.bool_]], baseline: Sequence[NDArray[np.bool_]]) -> Interval:
    """Return the difference of two accuracies with its 95 % interval over test images, by paired bootstrap.

    Images are drawn with replacement, the same ones for both rows and all seeds. The interval holds for these
    trained networks and other test images; it does not contain the spread between seeds.

    Args:
        row: For each seed, whether the prediction of each test image was right, (N,).
        baseline: The same for the baseline, with the same seeds.
    """
    differences = np.sum(np.asarray(row, int) - np.asarray(baseline, int), axis=0)  # (N,), over seeds
    # images with equal differences are alike, so drawing images is drawing their counts
    values, counts = np.unique(differences, return_counts=True)
    draws = np.random.default_rng(0).multinomial(len(differences), counts / len(differences), RESAMPLES)
    means = draws @ values / (len(differences) * len(row))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(differences.mean()) / len(row), float(low), float(high))
